"""Each invariant can fail: a sound story holds, and each small lie in it is named."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.invariants import Evidence, breaches
from tests.faults.ledger import Ledger, Seen
from tests.faults.schedule import MOUNTS, PROCESS, schedule
from tests.faults.watch import Arrival

ADA = {"id": "ada", "name": "Ada"}


def intent(seq: int, call: str, number: int, mark: str, **over: Any) -> dict[str, Any]:
    """A committed call that brings one mark and knew none but `knew`."""
    knew = over.pop("knew", ())
    return {
        "kind": "intent", "seq": seq, "call": call, "trace": f"t-{call}", "tool": "get_stock", "digest": f"d-{call}",
        "conversation": "c", "number": number, "marks": [mark], "principal": ADA, "review": None,
        "decision": {"effect": "allow"}, "input": {"conversation": {"marks": dict.fromkeys(knew, 1)}},
    } | over  # fmt: skip


def end(seq: int, call: str, number: int, code: str | None = None) -> dict[str, Any]:
    return {"kind": "terminal", "seq": seq, "call": call, "conversation": "c", "number": number, "code": code}


def story() -> dict[str, Any]:
    """Three calls in one conversation, the last approved by rob; one refused."""
    return {
        "records": [
            intent(1, "a", 1, "A"), end(2, "a", 1), intent(3, "b", 2, "B", knew=["A"]), end(4, "b", 2),
            {"kind": "review_requested", "seq": 5, "review": {"id": "r1", "digest": "d-c"}},
            {"kind": "review_resolved", "seq": 6, "review": "r1", "status": "approved", "by": "rob"},
            intent(7, "c", 3, "C", knew=["A", "B"], review="r1"), end(8, "c", 3), end(9, "d", 4, "denied"),
        ],
        "arrivals": [Arrival(trace=f"t-{c}", target=f"/{c}", call=c, ended=False) for c in "abc"],
        "answers": [Seen(call=c, code="", at=1.0) for c in "abc"] + [Seen(call="d", code="denied", at=1.0)],
        "rejected": set(),
        "unsafe": [(5.0, 6.0)],
        "told": dict.fromkeys("abc", "allow"),
    }  # fmt: skip


def found(told: dict[str, Any]) -> dict[str, list[str]]:
    """The invariants that a story breaks."""
    evidence = Evidence(
        records=told["records"],
        arrivals=told["arrivals"],
        ledger=Ledger(answers=told["answers"], rejected=told["rejected"]),
        unsafe=told["unsafe"],
        retries={"get_terms": 1},
        together=frozenset("ABC"),
        told=told["told"],
    )
    return {name: sentences for name, sentences in breaches(evidence).items() if sentences}


def test_a_sound_story_holds() -> None:
    assert found(story()) == {}


def late(told: dict[str, Any]) -> None:
    told["records"][0]["seq"] = 3


def unseen(told: dict[str, Any]) -> None:
    told["records"][2]["input"]["conversation"]["marks"] = {}


LIES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no end": ("one_intent_one_end", lambda t: t["records"].pop(1)),
    "two ends": ("one_intent_one_end", lambda t: t["records"].append(end(10, "a", 1))),
    "two intents": ("one_intent_one_end", lambda t: t["records"].append(t["records"][0] | {"seq": 0, "number": 9})),
    "end before begin": ("one_intent_one_end", late),
    "no intent at arrival": (
        "nothing_unannounced",
        lambda t: t["arrivals"].append(Arrival(trace="x", target="/x", call=None, ended=False)),
    ),
    "arrival after the end": (
        "nothing_unannounced",
        lambda t: t["arrivals"].__setitem__(0, Arrival(trace="t-a", target="/a", call="a", ended=True)),
    ),
    "sent twice": ("nothing_twice", lambda t: t["arrivals"].append(t["arrivals"][0])),
    "committed on a deny": ("nothing_unallowed", lambda t: t["records"][0]["decision"].update(effect="deny")),
    "never allowed by OPA": ("nothing_unallowed", lambda t: t["told"].update(a="wrong type")),
    "answer without record": ("answers_are_recorded", lambda t: t["answers"].append(Seen(call="e", code="", at=5.5))),
    "refusal without record": (
        "answers_are_recorded",
        lambda t: t["answers"].append(Seen(call="e", code="denied", at=1.0)),
    ),
    "lost and not counted": (
        "answers_are_recorded",
        lambda t: t["answers"].append(Seen(call="e", code="denied", at=5.5)),
    ),
    "another code": ("answers_are_recorded", lambda t: t["records"][1].update(code="tool_failed")),
    "spent twice": (
        "approvals_are_spent_once",
        lambda t: t["records"].insert(0, intent(0, "a2", 0, "A", review="r1")),
    ),
    "spent before the yes": ("approvals_are_spent_once", lambda t: t["records"][5].update(seq=70)),
    "approved by oneself": ("approvals_are_spent_once", lambda t: t["records"][5].update(by="ada")),
    "approved for another call": ("approvals_are_spent_once", lambda t: t["records"][4]["review"].update(digest="x")),
    "spent though rejected": ("approvals_are_spent_once", lambda t: t["rejected"].add("r1")),
    "decided without a mark": ("marks_never_shrink", unseen),
    "three together, nobody asked": ("marks_never_shrink", lambda t: t["records"][6].update(review=None)),
    "one number twice": ("marks_never_shrink", lambda t: t["records"][6].update(number=2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(lie: str) -> None:
    invariant, tell = LIES[lie]
    told = copy.deepcopy(story())
    tell(told)
    assert invariant in found(told)


def test_what_was_counted_as_lost_may_be_missing() -> None:
    """A refusal answered while the disk was full has no record, but is in a gap's count."""
    told = story()
    told["answers"].append(Seen(call="e", code="denied", at=5.5))
    told["records"].append({"kind": "gap", "seq": 10, "lost": {"terminal": 1}})
    assert found(told) == {}


def test_a_seed_is_a_schedule() -> None:
    """Printable, repeatable, with every kind of fault, and without those that a machine cannot do."""
    one = schedule(5, 120, mounts=True, clock=True)
    assert str(one) == str(schedule(5, 120, mounts=True, clock=True)) != str(schedule(6, 120, mounts=True, clock=True))
    assert {fault.kind for fault in one.process} == set(PROCESS)
    bare = schedule(5, 120, mounts=False, clock=False)
    assert {fault.kind for fault in bare.process} == set(PROCESS) - MOUNTS - {"clock"}
