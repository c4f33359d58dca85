"""The last calls of a conversation, written short: written out they are most of a row, which each step seals and sends anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.earlier import EarlierCall, Outcome

_MOST = 64  # kinds, before they are numbered anew
_ROWS = 60  # of which twenty are shown

Kind = tuple[str, str, str, tuple[str, ...]]  # tool, system, effect, labels


class ShownCalls:
    """Turns calls into `kinds` and rows of [number, kind, outcome], and remembers what it has written: of twenty calls a step
    changes one, or none. Calls are told apart by identity; who is remembered is kept, so that nobody else gets its own."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, int] = {}
        self._rows: dict[int, bytes] = {}
        self._kept: list[EarlierCall] = []
        self._last: list[int] = []
        self._value = orjson.Fragment(b'{"kinds":[],"rows":[]}')

    def written(self, calls: Sequence[EarlierCall]) -> orjson.Fragment:
        """Their JSON."""
        shown = list(map(id, calls))
        if shown != self._last:
            if len(self._kinds) > _MOST or len(self._kept) > _ROWS:
                self._kinds, self._rows, self._kept = {}, {}, []
            rows = list(map(self._rows.get, shown))
            while None in rows:
                at = rows.index(None)
                rows[at] = self._row(calls[at])
            self._last = shown
            kinds = orjson.dumps(list(self._kinds))
            self._value = orjson.Fragment(b'{"kinds":%s,"rows":[%s]}' % (kinds, b",".join(filter(None, rows))))
        return self._value

    def _row(self, call: EarlierCall) -> bytes:
        kind = self._kinds.setdefault((call.tool, call.system, call.effect, call.labels), len(self._kinds))
        row = self._rows[id(call)] = b'[%d,%d,"%s"]' % (call.seq, kind, call.outcome.value.encode())
        self._kept.append(call)
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
