"""Stop switches: what they are called, and which stand in the way."""

from datetime import UTC, datetime, timedelta

import pytest

from proxy.core.stops import SCOPES, stop_record, stopped_by, switched
from proxy.errors import Code
from tests.contracts.store_kit import refusing
from tests.contracts.store_values import caller, checked, tool

NOW, SINCE = datetime(2026, 11, 25, 8, 30, tzinfo=UTC), "2026-11-25T08:30:00.000000Z"
WHO, WHAT = caller("talk"), checked(tool("get_stock", system="stock"))


@pytest.mark.parametrize(
    "name",
    [
        "all ",
        "conversation talk",
        "principal https://id.shop.test#ada",
        "principal ada",
        "agent buyer-0",
        "agent buyer",
        "agent shop/buyer",
        "tool get_stock",
        "system stock",
    ],
)
def test_a_switch_stops_what_it_names(name: str) -> None:
    said = stopped_by({name}, WHO, WHAT)
    assert said == (
        "all calls are stopped" if name == "all " else f"calls of this {name.split(maxsplit=1)[0]} are stopped"
    )
    scope = name.split(" ", maxsplit=1)[0]
    assert scope in SCOPES
    assert stopped_by({f"{scope} another"}, WHO, WHAT) is None


def test_before_a_call_is_checked_its_tool_stops_nothing() -> None:
    assert stopped_by({"tool get_stock"}, WHO, None) is None
    assert stopped_by({}, WHO, WHAT) is None


def test_of_two_switches_the_wider_is_told() -> None:
    assert stopped_by({"tool get_stock", "all "}, WHO, WHAT) == "all calls are stopped"


def test_what_is_thrown_stands_until_it_is_lifted_and_leaves_others_alone() -> None:
    throw = stop_record({"scope": "tool", "name": "x", "by": "olga"}, standing=True, at=NOW)
    other = stop_record({"scope": "all"}, standing=True, at=NOW)
    both = switched(switched({}, throw), other)
    assert both == {
        "tool x": {"scope": "tool", "name": "x", "by": "olga", "since": SINCE},
        "all ": {"scope": "all", "name": "", "by": None, "since": SINCE},
    }
    assert list(switched(both, {**throw, "standing": False})) == ["all "]
    assert switched({}, {**throw, "standing": False}) == {}


def test_a_switch_stands_since_it_was_thrown_first() -> None:
    """Thrown again it is the same; lifted and thrown it is another. An older record has the time of its writing only."""
    throw = stop_record({"scope": "tool", "name": "x", "by": "olga"}, standing=True, at=NOW)
    again = stop_record({"scope": "tool", "name": "x", "by": "otto"}, standing=True, at=NOW + timedelta(hours=1))
    first = switched({}, throw)
    assert switched(first, again) == first
    lifted = switched(first, {**throw, "standing": False})
    assert switched(lifted, again)["tool x"]["by"] == "otto"
    old = {key: value for key, value in throw.items() if key != "since"} | {"at": "2026-11-01T00:00:00Z"}
    assert switched({}, old)["tool x"]["since"] == "2026-11-01T00:00:00Z"


def test_folding_changes_no_value_in_place() -> None:
    """Who holds the switches of a moment ago still holds them."""
    before = switched({}, stop_record({"scope": "all"}, standing=True, at=NOW))
    switched(before, stop_record({"scope": "all"}, standing=False, at=NOW))
    assert list(before) == ["all "]


@pytest.mark.parametrize(
    "switch",
    [
        {},
        {"scope": "world", "name": "x"},
        {"scope": "tool"},
        {"scope": "tool", "name": ""},
        {"scope": "tool", "name": 1},
    ],
)
def test_a_switch_that_names_nothing_known_is_refused(switch: dict[str, object]) -> None:
    with refusing(Code.INVALID_CALL):
        stop_record(switch, standing=True, at=NOW)
