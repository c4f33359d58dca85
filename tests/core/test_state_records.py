"""A record is looked at before it is written, since what is written is applied."""

from proxy.core.state_records import missing_keys
from tests.contracts.store_values import caller, checked, terminal, tool


def test_missing_keys_are_named() -> None:
    record = terminal("call", caller("talk"), checked(tool("get_stock")))
    assert missing_keys(record) == []
    del record["ok"], record["code"]
    assert missing_keys(record) == ["ok", "code"]
