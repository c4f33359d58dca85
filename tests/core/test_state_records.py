"""A record is looked at before it is written, since what is written is applied."""

from proxy.core.state_records import missing_keys, recovered_record
from tests.contracts.store_values import caller, checked, terminal, tool


def test_missing_keys_are_named() -> None:
    record = terminal("call", caller("talk"), checked(tool("get_stock")))
    assert missing_keys(record) == []
    del record["ok"], record["code"]
    assert missing_keys(record) == ["ok", "code"]


def test_the_end_of_a_call_that_nobody_saw_end_can_be_applied() -> None:
    """And it says that nobody knows."""
    running = {"conversation": "talk", "principal": "ada", "number": 3, "tool": "get_stock", "digest": "d"}
    record = recovered_record("call", running)
    assert missing_keys(record) == []
    assert (record["outcome"], record["ran"], record["recovered"], record["number"]) == ("unknown", "unknown", True, 3)
