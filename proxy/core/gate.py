"""How many calls may be under way, and how many of them one principal's: over it a call is refused, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from proxy.errors import Code, Refusal


def fair(held: int, more: int, free: int) -> bool:
    """Whether who holds so much of what all share may take more of it: never more than is free. So the first comers get half,
    the next a quarter, and who holds little always finds something (Choudhury and Hahne, "Dynamic queue length thresholds in
    a shared memory ATM switch", 1996). One look, however many share."""
    return held + more <= free


@dataclass(slots=True, kw_only=True)
class Gate:
    """The places of a process. A held call takes none."""

    limit: int
    inside: int = 0
    closed: bool = False
    held: dict[str, int] = field(default_factory=dict)  # places by principal, of those that hold any

    def enter(self) -> "Place":
        """A place, nobody's as yet. Raises Refusal overloaded."""
        if self.closed:
            raise Refusal(Code.OVERLOADED, "Sidegate is shutting down and takes no new calls", retry_after=5)
        if self.inside >= self.limit:
            raise Refusal(Code.OVERLOADED, f"more than {self.limit} calls are under way", retry_after=1)
        place = Place(gate=self)
        place.count(1)
        return place


@dataclass(slots=True, kw_only=True)
class Place:
    """One place, from its `enter` to its `leave`."""

    gate: Gate
    principal: str | None = None

    def give_to(self, principal: str) -> None:
        """Say whose it is; all who prove nothing are one. Raises Refusal overloaded if these have too many already."""
        held, free = self.gate.held.get(principal, 0), self.gate.limit - self.gate.inside + 1
        if not fair(held, 1, free):
            raise Refusal(
                Code.OVERLOADED,
                f"{held} calls of this principal are under way; nobody may have more of them than places are free",
                fix="send fewer calls at once, and this one again when some of the others have ended",
                details={"cause": "share_of_principal", "held": held, "free": free, "limit": self.gate.limit},
                retry_after=1,
            )
        self.gate.held[principal] = held + 1
        self.principal = principal

    def leave(self) -> None:
        """Count it out again."""
        self.count(-1)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """A call that waits for a person takes no place."""
        self.count(-1)
        try:
            yield
        finally:
            self.count(1)

    def count(self, step: int) -> None:
        """Take it, or give it back; also from its principal's."""
        self.gate.inside += step
        if self.principal is None:
            return
        held = self.gate.held.pop(self.principal, 0) + step
        if held:
            self.gate.held[self.principal] = held
