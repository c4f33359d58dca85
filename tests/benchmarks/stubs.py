"""Counterparts that cost as little as Python can: an upstream, an OPA and a collector, each an asyncio.Protocol on uvloop.

Run: python -m tests.benchmarks.stubs upstream PORT [DELAY_SECONDS] | opa SOCKET BUNDLE | collector PORT
"""

import asyncio
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import uvloop

ANSWER = json.dumps({"sku": "SKU-17", "on_hand": 412, "note": "x" * 250}).encode()
COUNT = b"GET /count "  # how many requests there were before; asked by the benchmarks themselves

Answering = Callable[[bytes, bytes], bytes]  # head and body -> body


class Fast(asyncio.Protocol):
    """Answers each complete request, after `delay` seconds."""

    def __init__(self, answer: Answering, delay: float = 0.0) -> None:
        self._answer = answer
        self._delay = delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _length(head)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            answer = self._answer(head, body)
            reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
                len(answer),
                answer,
            )
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._write, reply)
            else:
                self._transport.write(reply)

    def _write(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:")
    return int(lower[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


class StubUpstream:
    """The same answer always; counts."""

    def __init__(self) -> None:
        self._count = 0

    def answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(COUNT):
            return b"%d" % self._count
        self._count += 1
        return ANSWER


class StubOpa:
    """Under the revision of the bundle that it finds: denies `drop_all`, has `ask_price` reviewed, allows the rest."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._seen = 0
        self._said: dict[str, bytes] = {}

    def answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST /v1/data/sidegate/decision/mismatch"):
            return b'{"result":[]}'
        if (seen := self._bundle.stat().st_mtime_ns) != self._seen:
            self._seen, self._said = seen, _decisions(self._bundle)
        if len(body) < 100 or b'"tool":{"name":"drop_all"' in body:
            return self._said["deny"]
        asks = b'"tool":{"name":"ask_price"' in body and b'"approval":null' in body
        return self._said["review" if asks else "allow"]


def _decisions(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as archive:
        manifest = archive.extractfile(".manifest")
        revision = json.loads(manifest.read())["revision"] if manifest else ""
    base = {"schema": 1, "guards": [], "deny": {}, "review": {}, "allow": {}, "obligations": {}, "warn": {}}
    granted = {"allow": {"grants": [{"code": "granted"}]}}
    asked = {"review": {"grants": [{"code": "grant_needs_review", "approvers": ["sourcing-leads"], "scope": "once"}]}}
    documents = {
        "allow": base | granted | {"effect": "allow", "revision": revision},
        "review": base | granted | asked | {"effect": "review", "revision": revision},
        "deny": base | {"effect": "deny", "guards": ["fact_missing"], "revision": revision},
    }
    return {name: json.dumps({"result": document}).encode() for name, document in documents.items()}


async def main(kind: str, *arguments: str) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    if kind == "upstream":
        upstream, delay = StubUpstream(), float(arguments[1]) if len(arguments) > 1 else 0.0
        await loop.create_server(lambda: Fast(upstream.answer, delay), "127.0.0.1", int(arguments[0]))
    elif kind == "collector":
        await loop.create_server(lambda: Fast(lambda _head, _body: b""), "127.0.0.1", int(arguments[0]))
    else:
        opa = StubOpa(Path(arguments[1]))
        await loop.create_unix_server(lambda: Fast(opa.answer), arguments[0])
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
