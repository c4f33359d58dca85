"""Core's fold of one record over what a step has loaded: the rules of state stand there alone, whatever the store."""

from collections.abc import Mapping
from typing import Any

from proxy.adapters.store_valkey_talks import Talk
from proxy.adapters.store_valkey_tallies import Changes
from proxy.core.hold_rules import Hold
from proxy.core.state import State
from proxy.core.state_records import missing_keys, recovered_record


def intent(
    record: Mapping[str, Any], talk: Talk, hold: Hold | None, *, pod: str, seq: int
) -> tuple[State, Hold | None]:
    """A call is committed in `talk`, which then has it as executing; on `hold`'s approval, if there is one."""
    state = _state(talk, hold)
    _apply(state, record, seq)
    talk.executing[record["call"]] = {**state.executing[record["call"]], "pod": pod}
    return state, None if hold is None else state.holds.all[hold.review.id]


def terminal(record: Mapping[str, Any], talk: Talk, *, day: str) -> State:
    """A call has ended."""
    state = _state(talk, None)
    state.day = day
    running = talk.executing.pop(record["call"], None)
    if running is not None:
        state.executing[record["call"]] = running
        state.principals[running["principal"]] = dict(running["counters"])
    _apply(state, record, 0)
    return state


def recovered(call: str, running: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a call that a dead process left executing; `pod`, if another pod has begun it."""
    record = recovered_record(call, running)
    return {**record, "pod": running["of"]} if "of" in running else record


def review(record: Mapping[str, Any], talk: Talk, hold: Hold | None, *, seq: int) -> Hold:
    """A review is asked for (`hold` is None), attached to, or answered."""
    state = _state(talk, hold)
    _apply(state, record, seq)
    return next(iter(state.holds.all.values()))


def counted(state: State, before: Mapping[str, int], principal: str, day: str) -> Changes:
    """How the counters of a principal have changed."""
    after = state.principals.get(principal, {})
    changes: dict[str, int] = {}
    if after != before:
        for name in {**before, **after}:
            if by := after.get(name, 0) - before.get(name, 0):
                changes[name] = by
    return {(day, principal): changes}


def _state(talk: Talk, hold: Hold | None) -> State:
    state = State()
    state.conversations[talk.conversation.id] = talk.conversation
    if hold is not None:
        state.holds.take(hold)
    return state


def _apply(state: State, record: Mapping[str, Any], seq: int) -> None:
    missing = missing_keys(record)
    if missing:
        raise ValueError(f"a record of kind {record['kind']} needs {', '.join(missing)}")
    state.apply({**record, "seq": seq})
