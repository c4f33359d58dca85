"""Places of calls: as many as there are, for as many principals as come."""

import pytest

from proxy.core.gate import Gate, Place, fair
from proxy.errors import Code, Ran, Refusal, Retry
from tests.contracts.store_kit import refusing


def entered(gate: Gate, principal: str) -> Place:
    """A place of this principal's."""
    place = gate.enter()
    try:
        place.give_to(principal)
    except Refusal:
        place.leave()
        raise
    return place


def fill(gate: Gate, principal: str) -> list[Place]:
    """As many places as this principal gets."""
    places: list[Place] = []
    while fair(gate.held.get(principal, 0), 1, gate.limit - gate.inside):
        places.append(entered(gate, principal))
    with refusing(Code.OVERLOADED):
        entered(gate, principal)
    return places


def test_the_gate_takes_as_many_as_it_may_and_refuses_the_next() -> None:
    """A place that is left is free."""
    gate = Gate(limit=2)
    place = gate.enter()
    gate.enter()
    with refusing(Code.OVERLOADED):
        gate.enter()
    assert gate.inside == 2
    place.leave()
    gate.enter()


def test_a_closed_gate_takes_nobody_and_lets_everybody_out() -> None:
    """While the process ends."""
    gate = Gate(limit=2)
    place = gate.enter()
    gate.closed = True
    with pytest.raises(Refusal) as no:
        gate.enter()
    assert (no.value.code, no.value.retry_after) == (Code.OVERLOADED, 5)
    place.leave()
    assert gate.inside == 0


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_who_waits_outside_takes_no_place_and_comes_back(fault: type[BaseException]) -> None:
    """Whatever happened out there, and for its principal, too."""
    gate = Gate(limit=1)
    place = entered(gate, "ada")
    with place.outside():
        assert (gate.inside, gate.held) == (0, {})
    assert (gate.inside, gate.held) == (1, {"ada": 1})
    with pytest.raises(fault), place.outside():
        raise fault
    assert (gate.inside, gate.held) == (1, {"ada": 1})
    place.leave()
    assert (gate.inside, gate.held) == (0, {})


@pytest.mark.parametrize(("limit", "places"), [(1, 1), (2, 1), (3, 2), (4, 2), (10, 5), (256, 128)])
def test_one_principal_gets_half_of_the_places_and_never_none(limit: int, places: int) -> None:
    """Alone as among others: the rest is for who comes next."""
    gate = Gate(limit=limit)
    assert len(fill(gate, "ada")) == places
    assert (gate.inside, gate.held) == (places, {"ada": places})


def test_whoever_comes_finds_a_place_while_others_take_all_they_can() -> None:
    """Half, a quarter, an eighth: seven that are greedy leave places for an eighth."""
    gate = Gate(limit=256)
    greedy = [fill(gate, f"greedy-{number}") for number in range(7)]
    assert [len(places) for places in greedy] == [128, 64, 32, 16, 8, 4, 2]
    entered(gate, "ben")
    for places in greedy:
        places.pop().leave()
    entered(gate, "ben")


def test_many_who_hold_little_fill_all_places() -> None:
    """The share refuses nobody's first call while there is a place at all."""
    gate = Gate(limit=256)
    for number in range(256):
        entered(gate, f"user-{number}")
    with refusing(Code.OVERLOADED):
        gate.enter()


def test_what_is_left_is_the_principals_again() -> None:
    """And who holds nothing is not remembered."""
    gate = Gate(limit=4)
    first, _ = fill(gate, "ada")
    first.leave()
    again = entered(gate, "ada")
    with refusing(Code.OVERLOADED):
        entered(gate, "ada")
    again.leave()
    for place in fill(gate, "ben"):
        place.leave()
    assert gate.held == {"ada": 1}


def test_over_its_share_a_principal_is_told_what_to_do_and_keeps_no_place() -> None:
    """Nothing of others; the record has the figures."""
    gate = Gate(limit=4)
    fill(gate, "ada")
    place = gate.enter()
    with pytest.raises(Refusal) as no:
        place.give_to("ada")
    place.leave()
    assert (no.value.code, no.value.ran, no.value.retry, no.value.retry_after) == (
        Code.OVERLOADED,
        Ran.NO,
        Retry.LATER,
        1,
    )
    assert no.value.message.startswith("2 calls of this principal are under way")
    assert no.value.fix is not None
    assert "fewer calls at once" in no.value.fix
    assert no.value.details == {"cause": "share_of_principal", "held": 2, "free": 2, "limit": 4}
    assert (gate.inside, gate.held) == (2, {"ada": 2})


@pytest.mark.parametrize(
    ("held", "more", "free", "fits"), [(0, 1, 1, True), (0, 1, 0, False), (3, 2, 5, True), (4, 2, 5, False)]
)
def test_nobody_takes_more_than_is_free(held: int, more: int, free: int, *, fits: bool) -> None:
    """With what is held already."""
    assert fair(held, more, free) is fits
