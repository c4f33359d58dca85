"""Stop switches: what they are called, and which stand in the way."""

import pytest

from proxy.core.stops import SCOPES, stop_record, stopped_by, switched
from proxy.errors import Code
from tests.contracts.store_kit import refusing
from tests.contracts.store_values import caller, checked, tool

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
    throw = stop_record({"scope": "tool", "name": "x", "by": "olga"}, standing=True)
    other = stop_record({"scope": "all"}, standing=True)
    both = switched(switched({}, throw), other)
    assert both == {
        "tool x": {"scope": "tool", "name": "x", "by": "olga"},
        "all ": {"scope": "all", "name": "", "by": None},
    }
    assert list(switched(both, {**throw, "standing": False})) == ["all "]
    assert switched({}, {**throw, "standing": False}) == {}


def test_folding_changes_no_value_in_place() -> None:
    """Who holds the switches of a moment ago still holds them."""
    before = switched({}, stop_record({"scope": "all"}, standing=True))
    switched(before, stop_record({"scope": "all"}, standing=False))
    assert list(before) == ["all "]


@pytest.mark.parametrize(
    "switch", [{}, {"scope": "world", "name": "x"}, {"scope": "tool"}, {"scope": "tool", "name": 1}]
)
def test_a_switch_that_names_nothing_known_is_refused(switch: dict[str, object]) -> None:
    with refusing(Code.INVALID_CALL):
        stop_record(switch, standing=True)
