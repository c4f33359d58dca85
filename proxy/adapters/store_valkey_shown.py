"""The last calls of a conversation, written short: written out they are most of a row, which each step seals and sends anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.earlier import EarlierCall, Outcome

_MOST = 64  # kinds, before they are numbered anew
_ROWS = 400

Row = tuple[int, int, str]
Kind = tuple[str, str, str, tuple[str, ...]]  # tool, system, effect, labels


class ShownCalls:
    """Turns calls into `kinds` and rows of (number, kind, outcome), and remembers what it has written: of twenty calls a step
    changes one, or none."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, int] = {}
        self._rows: dict[int, tuple[EarlierCall, Row]] = {}  # by identity; who is in here keeps it
        self._last: list[EarlierCall] = []
        self._value = orjson.Fragment(b'{"kinds":[],"rows":[]}')

    def written(self, calls: Sequence[EarlierCall]) -> orjson.Fragment:
        """Their JSON."""
        if calls != self._last:
            if len(self._kinds) > _MOST or len(self._rows) > _ROWS:
                self._kinds, self._rows = {}, {}
            known = self._rows
            rows = [known[id(call)][1] if id(call) in known else self._row(call) for call in calls]
            self._last = list(calls)
            self._value = orjson.Fragment(orjson.dumps({"kinds": list(self._kinds), "rows": rows}))
        return self._value

    def _row(self, call: EarlierCall) -> Row:
        kind = self._kinds.setdefault((call.tool, call.system, call.effect, call.labels), len(self._kinds))
        row = (call.seq, kind, call.outcome.value)
        self._rows[id(call)] = (call, row)
        return row


def read_calls(found: Mapping[str, Any]) -> list[EarlierCall]:
    """The calls of `written`. Raises KeyError, ValueError, TypeError, IndexError."""
    kinds = [(tool, system, effect, tuple(labels)) for tool, system, effect, labels in found["kinds"]]
    calls = []
    for seq, kind, outcome in found["rows"]:
        tool, system, effect, labels = kinds[kind]
        calls.append(
            EarlierCall(seq=seq, tool=tool, system=system, effect=effect, labels=labels, outcome=Outcome(outcome))
        )
    return calls
