"""Counterparts that cost as little as Python can: an upstream and an OPA, each an asyncio.Protocol on uvloop.

Run: python -m tests.benchmarks.stubs upstream PORT [DELAY_SECONDS] | opa SOCKET BUNDLE
"""

import asyncio
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import uvloop

ANSWER = json.dumps({"sku": "SKU-17", "on_hand": 412, "note": "x" * 250}).encode()


class Fast(asyncio.Protocol):
    """Answers each complete request with `answer(body)`, after `delay` seconds."""

    def __init__(self, answer: Callable[[bytes], bytes], delay: float = 0.0) -> None:
        self._answer = answer
        self._delay = delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            answer = self._answer(body)
            reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
                len(answer),
                answer,
            )
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, reply)
            else:
                self._transport.write(reply)


class StubOpa:
    """Allows every call that has an input, under the revision of the bundle that it finds."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._seen = 0
        self._allow = self._deny = b""

    def answer(self, body: bytes) -> bytes:
        if (seen := self._bundle.stat().st_mtime_ns) != self._seen:
            self._seen = seen
            with tarfile.open(self._bundle) as archive:
                manifest = archive.extractfile(".manifest")
                revision = json.loads(manifest.read())["revision"] if manifest else ""
            base = {"schema": 1, "guards": [], "deny": {}, "review": {}, "allow": {}, "obligations": {}, "warn": {}}
            allow = base | {"effect": "allow", "allow": {"grants": [{"code": "granted"}]}, "revision": revision}
            deny = base | {"effect": "deny", "guards": ["fact_missing"], "revision": revision}
            self._allow, self._deny = (json.dumps({"result": document}).encode() for document in (allow, deny))
        return self._allow if len(body) > 100 else self._deny


async def main(kind: str, *arguments: str) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    if kind == "upstream":
        delay = float(arguments[1]) if len(arguments) > 1 else 0.0
        await loop.create_server(lambda: Fast(lambda _: ANSWER, delay), "127.0.0.1", int(arguments[0]))
    else:
        stub = StubOpa(Path(arguments[1]))
        decision = stub.answer
        mismatch = json.dumps({"result": []}).encode()
        await loop.create_unix_server(lambda: Routed(decision, mismatch), arguments[0])
    await asyncio.Event().wait()


class Routed(Fast):
    """The stub OPA's two paths: everything is a decision but `mismatch`."""

    def __init__(self, decision: Callable[[bytes], bytes], mismatch: bytes) -> None:
        super().__init__(self._route)
        self._decision = decision
        self._mismatch = mismatch
        self._asked_mismatch = False

    def data_received(self, data: bytes) -> None:
        self._asked_mismatch = data.startswith(b"POST /v1/data/sidegate/decision/mismatch")
        super().data_received(data)

    def _route(self, body: bytes) -> bytes:
        return self._mismatch if self._asked_mismatch else self._decision(body)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
