"""Conversations that nobody had: the facts are those that the store would have."""

from proxy.core.supposed import used_before
from proxy.earlier import Outcome
from tests.contracts.store_values import tool

STOCK, PRICES = tool("get_stock", system="stock", labels=["quantities"]), tool("get_prices", system="pricing")


def test_tools_that_were_used_have_left_their_marks_in_order() -> None:
    history = used_before([STOCK, PRICES, STOCK])
    assert history.marks == {
        "system:stock": 1,
        f"effect:{STOCK.effect}": 1,
        "label:quantities": 1,
        "system:pricing": 2,
        **({} if PRICES.effect == STOCK.effect else {f"effect:{PRICES.effect}": 2}),
    }
    assert {name: (count.started, count.ok) for name, count in history.tools.items()} == {
        "get_stock": (2, 2),
        "get_prices": (1, 1),
    }
    assert [(call.seq, call.tool, call.outcome) for call in history.calls] == [
        (1, "get_stock", Outcome.DONE),
        (2, "get_prices", Outcome.DONE),
        (3, "get_stock", Outcome.DONE),
    ]
    assert history.untrusted_read is not (STOCK.trusted and PRICES.trusted)
    assert (history.counters, history.complete, history.calls_complete) == ({"calls": 3}, True, True)


def test_nothing_was_used_before_a_first_call() -> None:
    history = used_before([])
    assert (history.marks, history.tools, history.calls, history.untrusted_read) == ({}, {}, (), False)
    assert history.calls_complete


def test_policy_is_shown_the_last_twenty() -> None:
    history = used_before([STOCK] * 30)
    assert [call.seq for call in history.calls] == list(range(11, 31))
    assert not history.calls_complete
