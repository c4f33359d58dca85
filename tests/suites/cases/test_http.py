"""Cases of section 2, the plain parts: bodies, encodings, paths, redirects, TLS (C011-C020), through the running sidecar."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from tests.e2e.rig import CREDENTIAL, Rig, Upstream, free_ports, native, tool
from tests.suites.cases.kit import answer_of, note, post, refused, says
from tests.telemetry.certificates import make_authority, server_side

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 1_500_000  # bytes of a body: above aiohttp's own default of 1 MiB
TLS_PORT = next(iter(free_ports(1)))


def prepare(rig: Rig) -> None:
    """A bound of our own, tools with a path and a query, an upstream that speaks bad TLS."""
    rig.settings["limits"] = {"body_bytes": LIMIT}
    rig.catalog["upstreams"]["tls"] = {"http": {"base_url": f"https://127.0.0.1:{TLS_PORT}"}, "credential": "api"}
    for number, _ in enumerate((*CODINGS, *REDIRECTS)):
        rig.catalog["upstreams"][f"u{number}"] = {**rig.catalog["upstreams"]["api"]}
        rig.catalog["tools"].append(note(f"n{number}", upstream=f"u{number}"))
    query = {"method": "GET", "path": "/files/{sku}/parts", "query": {"q": "sku"}}
    rig.catalog["tools"] += [note(), tool("file", "inventory", "read", query), note("secure", upstream="tls")]


PLAIN = b'{"ok":true}'
CODINGS = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN),
    "GZIP": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "br": b"\x0b\x05\x80" + PLAIN + b"\x03",
    "zstd": b"\x28\xb5\x2f\xfd" + PLAIN,
    "identity, gzip": gzip.compress(PLAIN),
    "gzip, gzip": gzip.compress(gzip.compress(PLAIN)),
    "unheard-of": PLAIN,
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_c011_a_packed_answer_is_not_passed_on(shared: Rig, coding: str) -> None:
    """Nobody asked for it: it is neither unpacked with its old headers nor handed on packed; the sentence says why."""
    handle = await shared.register("c011")
    packed = CODINGS[coding]
    shared.upstream.answer = says(packed, media_type=f"application/json\r\ncontent-encoding: {coding}")
    answer = await shared.send(handle, f"n{list(CODINGS).index(coding)}", {"text": 1})
    assert (answer.code, answer.body["refusal"]["ran"]) == ("invalid_result", "yes")
    assert "compressed" in answer.body["refusal"]["message"]
    asked = dict(shared.upstream.received[-1].headers)
    assert asked["accept-encoding"] == "identity"


async def test_c011_identity_is_passed_on_and_described(shared: Rig) -> None:
    """What comes unpacked arrives whole, with headers of our own that describe it."""
    handle = await shared.register("c011i")
    shared.upstream.answer = says(PLAIN, media_type="application/json\r\ncontent-encoding: identity")
    answer = await shared.send(handle, "note", {"text": 1})
    assert (answer.status, answer.body["result"]) == (200, {"ok": True})
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "unheard-of"])
async def test_c011_a_packed_request_is_refused(shared: Rig, coding: str) -> None:
    """The same the other way round: what policy would see and what the upstream would get must not differ."""
    handle = await shared.register("c011r")
    await refused(
        shared, handle, gzip.compress(native("note", {"text": 1}).encode()), "invalid_call", content_encoding=coding
    )


def sized(size: int) -> bytes:
    """A native call whose body has this many bytes."""
    empty = len(native("note", {"text": ""}))
    return native("note", {"text": "x" * (size - empty)}).encode()


async def chunked(rig: Rig, handle: str, body: bytes) -> tuple[int, dict[str, object], int]:
    """Send in chunks without a length until an answer comes; status, document, and how much was taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["agent"])
    head = f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sidegate-conversation: {handle}\r\n"
    writer.write(f"{head}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    taken, step = 0, 1 << 16
    while taken < len(body) and not answer.done():
        piece = body[taken : taken + step]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
        taken += len(piece)
    if taken >= len(body):
        writer.write(b"0\r\n\r\n")
    top = (await answer).decode().lower()
    length = int(top.split("content-length: ")[1].split("\r\n")[0])
    document = json.loads(await reader.readexactly(length))
    writer.close()
    return int(top.split(" ")[1]), document, taken


@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413), (50 * LIMIT, 413)])
async def test_c013_the_limit_counts_bytes_not_headers(shared: Rig, size: int, status: int) -> None:
    """Chunked bodies around the limit: over it 413, which names the setting, without reading on, and OPA is not asked."""
    handle = await shared.register(f"c013-{size}")
    shared.upstream.answer = says(b"{}")
    came, document, taken = await chunked(shared, handle, sized(size))
    assert came == status
    assert taken < LIMIT + (20 << 20)  # what two sockets buffer, not what the caller would like to send
    records = shared.records(kind="terminal", conversation=f"c013-{size}")
    if status == 413:
        refusal = answer_of(document)
        assert refusal["code"] == "too_large"
        assert "limits.body_bytes" in refusal["fix"]
        assert str(LIMIT) in refusal["message"]
        assert records == []
        assert "decision" not in await shared.ended(refusal["call_id"])
        assert shared.upstream.received == []
    else:
        assert [r["outcome"] for r in records] == ["done"]


@pytest.mark.parametrize(("size", "status"), [(1_300_000, 200), (LIMIT, 200), (LIMIT + 1, 413)])
async def test_c013_a_declared_length(shared: Rig, size: int, status: int) -> None:
    """An honest body beyond the library's own default passes; a length over the limit is refused."""
    handle = await shared.register("c013d")
    shared.upstream.answer = says(b"{}")
    assert (await post(shared, sized(size), handle))[0] == status


@pytest.mark.parametrize(
    "value",
    [
        "a/b(c) d;v=1?sig=x%2Fy%3D&n=a+b",
        "a//b",
        "a%2fb",
        "#",
        "?",
        "\\a\\",
        *["...", ".a", "a\r\nHost: evil", "é\u202e", "@evil.example", "{sku}", "%", "+"],
    ],
)
async def test_c016_a_value_stays_inside_its_segment(shared: Rig, value: str) -> None:
    """Byte by byte what policy judged: the raw target has the value as one segment and one query value, read back equal."""
    handle = await shared.register("c016")
    answer = await shared.send(handle, "file", {"sku": value})
    assert answer.status == 200, answer.body
    target = shared.sent(answer.call_id)[0].target
    path, _, query = target.partition("?")
    before, segment, after = path[1:].split("/")
    assert (before, after, unquote(segment)) == ("files", "parts", value)
    assert unquote(query.removeprefix("q=")) == value
    assert not set(segment + query) & set(" /\\?#\r\n+&;")
    assert (await shared.ended(answer.call_id))["outcome"] == "done"
    judged = shared.records(kind="intent", call=answer.call_id)[0]["input"]["call"]["arguments"]
    assert judged == {"sku": value}


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "%2e%2e",
        "..%2fadmin",
        "../admin",
        "%252e%252e/admin",
        "\\..\\",
        "a/../b",
        "a/..;x=1/b",
        "mine/../../theirs",
    ],
)
async def test_c016_what_a_server_would_fold_away_is_refused(shared: Rig, value: str) -> None:
    """A dot segment vanishes in whatever spelling: no value may become one."""
    handle = await shared.register("c016f")
    await refused(shared, handle, native("file", {"sku": value}), "invalid_arguments")


REDIRECTS = [
    f"{status} {where}"
    for where in ("http://127.0.0.1:{trap}/x", "//127.0.0.1:{trap}/x", "http://169.254.169.254/latest", "/elsewhere")
    for status in (301, 302, 303, 307, 308)
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trap() -> AsyncIterator[Upstream]:
    """Another origin, which must never hear of anything."""
    made = Upstream()
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("redirect", REDIRECTS)
async def test_c017_redirects_are_not_followed(shared: Rig, trap: Upstream, redirect: str) -> None:
    """To another port, another origin, a metadata address, or the same origin: one request, a readable error, and no
    credential leaves."""
    status, _, where = redirect.partition(" ")
    handle = await shared.register("c017")
    shared.upstream.answer = says(
        b"{}", status=f"{status} Go", media_type=f"text/plain\r\nlocation: {where.format(trap=trap.port)}"
    )
    answer = await shared.send(handle, f"n{len(CODINGS) + REDIRECTS.index(redirect)}", {"text": 1})
    assert answer.code == "tool_failed"
    assert "redirect" in answer.body["refusal"]["message"]
    assert len(shared.upstream.received) == 1
    assert trap.received == []
    assert CREDENTIAL not in json.dumps(answer.body) + json.dumps(await shared.ended(answer.call_id))


async def test_c020_bad_tls_is_told_apart_without_hosts(shared: Rig, tmp_path: Path) -> None:
    """An untrusted certificate: nothing was sent, the sentence says TLS and nothing of host, library or stack. (Refusing,
    slow and resetting upstreams: tests/e2e/test_upstream_faults.py.)"""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", TLS_PORT, ssl=server_side(make_authority(tmp_path)))
    async with server:
        handle = await shared.register("c020")
        answer = await shared.send(handle, "secure", {"text": 1})
    refusal = answer.body["refusal"]
    assert (answer.code, refusal["ran"]) == ("tool_unreachable", "no")
    assert "TLS" in refusal["message"]
    assert not {"127.0.0.1", str(TLS_PORT), "ssl", "certificate verify"} & set(refusal["message"].split())
