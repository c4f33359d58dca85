"""Counters of a principal are changed by what core's fold has changed, as sums."""

import pytest

from proxy.adapters.store_valkey_fold import counted, intent, terminal
from proxy.adapters.store_valkey_talks import Talk
from proxy.adapters.store_valkey_tallies import Changes
from proxy.core.conversation import Conversation
from proxy.model import Facts
from tests.contracts.store_values import NOTHING, caller, checked, tool
from tests.contracts.store_values import intent as intent_of
from tests.contracts.store_values import terminal as terminal_of

WHO, WHAT = caller("talk"), checked(tool("get_stock"))
FACTS = Facts(seq=1, history=NOTHING)
DAY = "2026-11-25"


def committed() -> tuple[Talk, Changes]:
    talk = Talk(key=b"k", version=1, conversation=Conversation(id="talk"))
    record = {**intent_of("c", WHO, WHAT, FACTS, counters={"calls": 1, "rows": 5}), "day": DAY}
    state, spent = intent(record, talk, None, pod="a", seq=1)
    assert spent is None
    return talk, counted(state, {}, WHO.principal.id, DAY)


def test_a_commit_adds_and_says_whose_the_call_is() -> None:
    talk, changes = committed()
    assert changes == {(DAY, WHO.principal.id): {"calls": 1, "rows": 5}}
    assert talk.executing["c"]["pod"] == "a"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ({}, {}),
        ({"counters": {"rows": 2}}, {"rows": 2}),
        ({"outcome": "refused", "ok": False, "code": "tool_unreachable"}, {"calls": -1, "rows": -5}),
    ],
    ids=["done", "done with more", "nothing was sent"],
)
def test_an_end_adds_or_takes_back(ending: dict[str, object], expected: dict[str, int]) -> None:
    talk, _ = committed()
    running = talk.executing["c"]
    state = terminal(terminal_of("c", WHO, WHAT, FACTS, **ending), talk, day=DAY)
    assert counted(state, running["counters"], WHO.principal.id, DAY) == {(DAY, WHO.principal.id): expected}
    assert talk.executing == {}


def test_a_record_that_lacks_a_key_is_refused_before_anything_changes() -> None:
    talk, _ = committed()
    with pytest.raises(ValueError, match="needs ok"):
        terminal({k: v for k, v in terminal_of("c", WHO, WHAT, FACTS).items() if k != "ok"}, talk, day=DAY)
