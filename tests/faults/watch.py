"""The upstream as a witness: when a request arrives it looks into the journal's files, whether the intent is there already."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.upstream import Received, echo, reply


@dataclass(slots=True)
class Tail:
    """Follows the journal's files as they grow."""

    directory: Path
    calls: dict[str, str] = field(default_factory=dict)  # trace -> call, of intents
    ended: set[str] = field(default_factory=set)  # calls
    _read: dict[Path, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read what has been written since."""
        for path in sorted(self.directory.glob("*.jsonl")):
            before = self._read.get(path, 0)
            if path.stat().st_size == before:
                continue
            with path.open("rb") as file:
                file.seek(before)
                whole, _, _ = file.read().rpartition(b"\n")
            self._read[path] = before + len(whole) + 1 if whole else before
            for line in whole.splitlines():
                self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        if record["kind"] == "intent":
            self.calls[record["trace"]] = record["call"]
        elif record["kind"] == "terminal":
            self.ended.add(record["call"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request to run a tool, as the upstream got it, and what the journal said at that moment."""

    trace: str
    target: str
    call: str | None  # by the intent that was there
    ended: bool  # whether the call's terminal record was there, too


@dataclass(slots=True)
class Witness:
    """The upstream's answers. `behaviour` names a fault, which befalls every other request."""

    tail: Tail
    rng: random.Random
    behaviour: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    facts: int = 0
    behaved: Counter[str] = field(default_factory=Counter)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        if request.target.startswith("/facts/"):
            self.facts += 1
            await reply(writer, b'{"tenant":"acme","owner":"token-file:ada"}')
            return
        self.tail.refresh()
        call = self.tail.calls.get(request.trace)
        self.arrivals.append(
            Arrival(trace=request.trace, target=request.target, call=call, ended=call in self.tail.ended)
        )
        kind = self.behaviour if self.rng.random() < 1 / 2 else ""
        self.behaved[kind or "echo"] += 1
        await self._behave(kind, request, writer)

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self.open:
            writer.close()
        self.open.clear()

    async def _behave(self, kind: str, request: Received, writer: asyncio.StreamWriter) -> None:
        if kind == "reset":
            writer.transport.abort()
        elif kind == "half":
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"half":')
            await writer.drain()
            writer.close()
        elif kind == "garbage":
            writer.write(self.rng.randbytes(200))
            await writer.drain()
            writer.close()
        elif kind == "status_500":
            await reply(writer, b'{"error":"broken"}', status="500 Internal Server Error")
        elif kind == "huge":
            await reply(writer, b'"' + b"x" * (1 << 20) + b'"')
        else:
            if kind == "slow":  # from well inside the tools' timeout to well beyond it
                await asyncio.sleep(self.rng.uniform(0.1, 1.6))
            await echo(request, writer)
            if kind == "close_after":
                await writer.drain()
                writer.close()
