"""Calls written short are read as they were."""

from dataclasses import replace

import orjson

from proxy.adapters.store_valkey_shown import ShownCalls, read_calls
from proxy.earlier import EarlierCall, Outcome


def call(seq: int, tool: str = "get_stock", outcome: Outcome = Outcome.EXECUTING) -> EarlierCall:
    return EarlierCall(seq=seq, tool=tool, system="stock", effect="read", labels=("a", "b"), outcome=outcome)


def through(shown: ShownCalls, calls: list[EarlierCall]) -> list[EarlierCall]:
    return read_calls(orjson.loads(orjson.dumps(shown.written(calls))))


def test_they_come_back_as_they_were_however_they_change() -> None:
    """Ends, new ones, old ones that leave, more kinds than are kept."""
    shown, calls = ShownCalls(), [call(1), call(2, "get_terms")]
    assert through(shown, []) == []
    assert through(shown, calls) == calls
    calls[0] = replace(calls[0], outcome=Outcome.DONE)
    assert through(shown, calls) == calls
    for seq in range(3, 300):
        calls = [*calls, call(seq, f"tool-{seq}")][-50:]
        assert through(shown, calls) == calls


def test_a_call_that_is_gone_is_not_taken_for_another_in_its_place() -> None:
    """Memory that was freed is used again."""
    shown = ShownCalls()
    assert [through(shown, [call(seq)])[0].seq for seq in range(200)] == list(range(200))


def test_fifty_calls_of_few_tools_are_short() -> None:
    """Under 25 bytes each."""
    calls = [call(seq, f"tool-{seq % 4}", Outcome.DONE) for seq in range(1000, 1050)]
    assert len(orjson.dumps(ShownCalls().written(calls))) < 50 * 25
