"""The state is a fold: live, replayed, and loaded from a checkpoint with the rest replayed, it is the same."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.conversation import IMPLICIT
from proxy.core.holds import CONCLUDED_REVIEWS
from proxy.core.review import ReviewStatus
from proxy.core.state import ATTACHED_CALLS, State
from proxy.core.state_json import registered_to_json, review_to_json
from proxy.core.tool import Tool
from proxy.errors import Code
from proxy.model import Facts
from tests.contracts.store_values import NOTHING, caller, checked, intent, registered, review, terminal, tool

TOOLS = [tool("get_stock", labels=["quantities"]), tool("get_prices", system="pricing"), tool("mail", trusted=False)]
TALKS = ["talk-0", "talk-1", IMPLICIT]
Op = tuple[int, int, int]


class Historian:
    """Turns any numbers into a history that could have happened."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.running: list[tuple[str, str, int, int]] = []
        self.holds: list[tuple[str, str, str, int]] = []
        self.approved: list[tuple[str, str, str, int]] = []
        self.calls = 0

    def write(self, record: Mapping[str, Any]) -> None:
        self.records.append({**record, "seq": len(self.records) + 1})

    def take(self, op: Op) -> None:
        kind, which, how = op
        talk, found = TALKS[which % len(TALKS)], TOOLS[how % len(TOOLS)]
        steps: list[Callable[[str, Tool, int, int], None]] = [
            *(self._register, self._commit, self._commit, self._end, self._end, self._refuse),
            *(self._hold, self._attach, self._resolve, self._spend, self._stop, self._other),
        ]
        steps[kind % len(steps)](talk, found, which, how)

    def _commit(
        self, talk: str, found: Tool, which: int, how: int, review_id: str | None = None, digest: str = ""
    ) -> None:
        self.calls += 1
        call, number = f"call-{self.calls}", self.calls
        what = checked(found, digest or f"digest-{how % 3}")
        facts = Facts(seq=number, history=NOTHING)
        day = "2026-11-25" if len(self.records) < 30 else "2026-11-26"
        self.write(intent(call, caller(talk), what, facts, review=review_id, day=day))
        self.running.append((call, talk, number, how))

    def _end(self, talk: str, found: Tool, which: int, how: int) -> None:
        if not self.running:
            return
        call, where, number, tool_number = self.running.pop(which % len(self.running))
        what = checked(TOOLS[tool_number % len(TOOLS)], f"digest-{tool_number % 3}")
        endings: list[dict[str, Any]] = [
            {"counters": {"rows": 3}},
            {"ok": False, "code": Code.TOOL_FAILED},
            {"outcome": "unknown", "ok": False, "code": Code.OUTCOME_UNKNOWN},
            {"outcome": "refused", "ok": False, "code": Code.UPSTREAM_OPEN},
        ]
        facts = Facts(seq=number, history=NOTHING)
        self.write(terminal(call, caller(where), what, facts, **endings[how % len(endings)]))

    def _refuse(self, talk: str, found: Tool, which: int, how: int) -> None:
        self.calls += 1
        what = checked(found, f"digest-{how % 3}")
        facts = Facts(seq=self.calls, history=NOTHING) if how % 2 else None
        ending = {
            "outcome": "refused",
            "ok": False,
            "code": Code.DENIED,
            "conversation": talk if which % 5 else "forged",
        }
        self.write(terminal(f"call-{self.calls}", caller(talk), what, facts, **ending))

    def _register(self, talk: str, found: Tool, which: int, how: int) -> None:
        if talk != IMPLICIT:
            again = registered(talk, handle_hash=f"{talk}-{how % 3}", turns=len(self.records))
            self.write({"kind": "registered", **registered_to_json(again)})

    def _hold(self, talk: str, found: Tool, which: int, how: int) -> None:
        self.calls += 1
        name, digest = f"review-{len(self.records)}", f"digest-{how % 3}"
        scope = "conversation" if how % 2 else "once"
        made = review(f"call-{self.calls}", caller(talk), checked(found, digest), id=name, scope=scope)
        self.write(
            {
                "kind": "review_requested",
                "review": review_to_json(made),
                "number": self.calls,
                "system": "s",
                "effect": "read",
                "labels": found.labels,
                "baseline": {"labels": list(found.labels), "untrusted": False},
            }
        )
        self.holds.append((name, talk, digest, how))

    def _attach(self, talk: str, found: Tool, which: int, how: int) -> None:
        if self.holds:
            name = self.holds[which % len(self.holds)][0]
            self.write({"kind": "review_attached", "review": name, "call": f"attached-{len(self.records)}"})

    def _resolve(self, talk: str, found: Tool, which: int, how: int) -> None:
        if not self.holds:
            return
        hold = self.holds.pop(which % len(self.holds))
        status = [ReviewStatus.APPROVED, ReviewStatus.APPROVED, ReviewStatus.REJECTED, ReviewStatus.EXPIRED][how % 4]
        at = "2026-11-25T12:30:00.000001+00:00"
        self.write(
            {
                "kind": "review_resolved",
                "review": hold[0],
                "status": status,
                "by": "rita",
                "comment": None,
                "resolved_at": at,
            }
        )
        if status is ReviewStatus.APPROVED:
            self.approved.append(hold)

    def _spend(self, talk: str, found: Tool, which: int, how: int) -> None:
        if self.approved:
            name, where, digest, tool_number = self.approved.pop(which % len(self.approved))
            self._commit(where, TOOLS[tool_number % len(TOOLS)], which, tool_number, name, digest)

    def _stop(self, talk: str, found: Tool, which: int, how: int) -> None:
        self.write({"kind": "stop", "scope": "tool", "name": found.name, "standing": bool(how % 2), "by": "olga"})

    def _other(self, talk: str, found: Tool, which: int, how: int) -> None:
        self.write({"kind": "reload", "what": "a record that carries no state"})


class Rows(dict[tuple[str, str], bytes]):
    """A checkpoint in a dict."""

    def save(self, state: State) -> None:
        for key in state.dirty:
            row = state.row(key)
            if row is None:
                self.pop(key, None)
            else:
                self[key] = orjson.dumps(row)
        state.dirty.clear()
        state.unsaved.clear()

    def loaded(self, seq: int, day: str) -> State:
        state = State(seq=seq, day=day, fetch=self.conversation)
        for (table, name), row in self.items():
            if table != "conversation":
                state.load(table, name, orjson.loads(row))
        state.arrange()
        return state

    def conversation(self, name: str) -> Any:
        row = self.get(("conversation", name))
        return None if row is None else orjson.loads(row)


def history(ops: list[Op]) -> list[dict[str, Any]]:
    historian = Historian()
    for op in ops:
        historian.take(op)
    return historian.records


def whole(state: State) -> dict[str, Any]:
    """All tables, with every conversation in memory."""
    for name in (*TALKS, "forged"):
        state.conversation(name)
    return {name: orjson.loads(orjson.dumps(table)) for name, table in state.tables().items()}


def replayed(records: list[dict[str, Any]]) -> State:
    state = State()
    for record in records:
        state.apply(record)
    return state


number = st.integers(min_value=0, max_value=59)
histories = st.lists(st.tuples(number, number, number), max_size=80)


@settings(max_examples=100, deadline=None)
@given(ops=histories, cuts=st.lists(st.integers(min_value=0, max_value=80), max_size=4))
def test_live_replayed_and_reloaded_state_are_equal_for_any_history(ops: list[Op], cuts: list[int]) -> None:
    records = history(ops)
    live, rows, saved = State(), Rows(), (0, "")
    for at, record in enumerate(records):
        if at in cuts:
            rows.save(live)
            saved = (live.seq, live.day)
        live.apply(record)
    from_disk: list[dict[str, Any]] = orjson.loads(orjson.dumps(records))
    again = rows.loaded(*saved)
    for record in from_disk[saved[0] :]:
        again.apply(record)
    expected = whole(live)
    assert whole(replayed(from_disk)) == expected
    assert whole(again) == expected


@settings(max_examples=50, deadline=None)
@given(ops=histories)
def test_marks_and_what_was_read_only_grow(ops: list[Op]) -> None:
    state = State()
    before: dict[str, tuple[set[str], bool]] = {}
    for record in history(ops):
        state.apply(record)
        for name, conversation in state.conversations.items():
            marks, untrusted = before.get(name, (set(), False))
            assert marks <= conversation.marks.keys()
            assert conversation.untrusted >= untrusted
            before[name] = (set(conversation.marks), conversation.untrusted)


@settings(max_examples=50, deadline=None)
@given(ops=histories)
def test_counts_are_those_of_the_calls_that_count(ops: list[Op]) -> None:
    state = replayed(history(ops))
    for conversation in state.conversations.values():
        assert conversation.total == sum(started for started, _ in conversation.tools.values())
        assert conversation.counters.get("calls", 0) == conversation.total
        assert all(ok <= started for started, ok in conversation.tools.values())


def test_old_answers_are_forgotten_everywhere_and_open_holds_never() -> None:
    historian, state, rows = Historian(), State(), Rows()
    historian._hold("talk-0", TOOLS[0], 0, 0)
    (kept,) = historian.holds
    historian._attach("talk-0", TOOLS[0], 0, 0)
    for _ in range(CONCLUDED_REVIEWS // 2 + 3):
        historian._hold("talk-1", TOOLS[0], 0, 0)
        historian._hold("talk-1", TOOLS[0], 0, 0)
        for newest in (2, 1):
            historian._resolve("talk-1", TOOLS[0], newest, 2)
    for record in historian.records:
        state.apply(record)
        rows.save(state)
    assert len(state.holds.all) == len(state.holds.by_call) - 1 == CONCLUDED_REVIEWS + 1
    assert len(state.holds.by_conversation["talk-1"]) == CONCLUDED_REVIEWS
    assert [hold.review.id for hold in state.holds.open()] == [kept[0]]
    assert whole(rows.loaded(state.seq, state.day)) == whole(state)


def test_of_the_calls_that_wait_on_one_review_the_last_are_known() -> None:
    historian = Historian()
    historian._hold("talk-0", TOOLS[0], 0, 0)
    for _ in range(ATTACHED_CALLS + 3):
        historian._attach("talk-0", TOOLS[0], 0, 0)
    state = replayed(historian.records)
    assert len(state.holds.by_call) == 1 + ATTACHED_CALLS


def test_a_forged_conversation_leaves_nothing_behind() -> None:
    """A refused call names whatever its caller sent."""
    state = State()
    ending: dict[str, Any] = {"outcome": "refused", "ok": False, "code": Code.UNKNOWN_CONVERSATION, "seq": 1}
    state.apply(terminal("call", caller("forged"), checked(TOOLS[0]), **ending))
    assert state.conversations == {}
    assert state.dirty == set()


def test_counters_of_principals_are_those_of_the_newest_day() -> None:
    historian = Historian()
    historian._commit("talk-0", TOOLS[0], 0, 0)
    state = replayed(historian.records)
    assert list(state.principals.values()) == [{"calls": 1}]
    later = historian.records[0] | {"day": "2026-11-26", "call": "b", "number": 2, "seq": 2}
    state.apply(later)
    state.apply(later | {"call": "c", "number": 3, "day": "2026-11-25", "seq": 3})
    assert list(state.principals.values()) == [{"calls": 2}]


def test_what_was_taken_yesterday_is_not_given_back_today() -> None:
    historian = Historian()
    historian._commit("talk-0", TOOLS[0], 0, 0)
    state = replayed(historian.records)
    state.apply(historian.records[0] | {"day": "2026-11-26", "call": "b", "number": 2, "seq": 2})
    nothing_sent = {"outcome": "refused", "ok": False, "code": Code.UPSTREAM_OPEN, "seq": 3}
    state.apply(terminal("call-1", caller("talk-0"), checked(TOOLS[0])) | nothing_sent)
    assert list(state.principals.values()) == [{"calls": 1}]


@pytest.mark.parametrize("lacking", ["number", "day", "marks", "principal"])
def test_a_record_that_cannot_be_folded_in_is_an_error(lacking: str) -> None:
    historian = Historian()
    historian._commit("talk-0", TOOLS[0], 0, 0)
    record = {key: value for key, value in historian.records[0].items() if key != lacking}
    with pytest.raises(KeyError):
        State().apply(record)
