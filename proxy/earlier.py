"""Earlier calls of a conversation, as policy and reviewers see them."""

from dataclasses import dataclass, field
from enum import StrEnum

import orjson


class Outcome(StrEnum):
    """What became of a call that others may see in its conversation."""

    EXECUTING = "executing"
    HELD = "held"
    DONE = "done"
    UNKNOWN = "unknown"
    # These vanish from the conversation.
    REFUSED = "refused"
    ABANDONED = "abandoned"


_TOLD = ("seq", "tool", "system", "effect", "labels", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCall:
    """A call of the same conversation with a lower sequence number. `facts`: its JSON, written once, since policy is told of it
    again with each of the next twenty calls (orjson takes 35 times as long to write the value itself)."""

    seq: int
    tool: str
    system: str
    effect: str
    labels: tuple[str, ...]
    outcome: Outcome
    _facts: orjson.Fragment = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        facts = {name: getattr(self, name) for name in _TOLD}
        object.__setattr__(self, "_facts", orjson.Fragment(orjson.dumps(facts)))

    @property
    def facts(self) -> orjson.Fragment:
        """The call as JSON."""
        return self._facts
