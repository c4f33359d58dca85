"""The one place where a refusal becomes a response: whatever a handler raises, the caller gets a code."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.errors import MEANINGS, Code, Refusal
from proxy.model import Answer, Dialect, Effect, Result, SpanContext
from proxy.server.rescue import answered, json_response, refused, rescue, too_large
from proxy.wire.batch import Batch
from tests.contracts.line import READ
from tests.contracts.served import Reply, bound

TRACE = SpanContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331")
DONE = Answer(
    call=READ, call_id="i1", trace=TRACE, decision=Effect.ALLOW, result=Result(body=b"{}", size=2, digest="d")
)
REFUSED = replace(DONE, call_id="i2", decision=None, result=None, refusal=Refusal(Code.OVERLOADED, "no", retry_after=9))


@asynccontextmanager
async def serving(raised: BaseException) -> AsyncIterator[str]:
    async def handler(_: web.Request) -> web.Response:
        raise raised

    app = web.Application(middlewares=[rescue], client_max_size=10)
    app.router.add_get("/x", handler)
    async with bound(app) as url:
        yield url


async def answer(raised: BaseException, path: str = "/x") -> Reply:
    async with (
        serving(raised) as url,
        aiohttp.ClientSession() as session,
        session.get(url + path) as response,
    ):
        assert response.content_type == "application/json"
        assert response.headers["cache-control"] == "no-store"
        return Reply(status=response.status, headers=response.headers, body=await response.read())


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.ABANDONED])
async def test_every_code_becomes_its_status_and_document(code: Code) -> None:
    """What the model may know, and nothing else."""
    no = Refusal(code, "no", fix="do", details={"secret": "canary"}, review_id="r", approvers=("a",), retry_after=3)
    reply = await answer(no)
    meaning = MEANINGS[code]
    assert reply.status == meaning.status
    assert reply.tree == {
        "refusal": {
            "code": code,
            "message": "no",
            "ran": meaning.ran,
            "retry": meaning.retry,
            "fix": "do",
            "review": "r",
            "approvers": ["a"],
        }
    }
    assert reply.headers["retry-after"] == "3"


async def test_a_fault_is_told_to_the_log_and_not_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    """Texts of exceptions may hold anything."""
    with caplog.at_level(logging.ERROR):
        reply = await answer(RuntimeError("canary-7f3a9"))
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"canary" not in reply.body
    assert "a handler failed" in caplog.text


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (web.HTTPNotFound(), 404, "invalid_call"),
        (web.HTTPMethodNotAllowed("GET", ["PUT"]), 405, "invalid_call"),
        (web.HTTPRequestEntityTooLarge(max_size=10, actual_size=11), 413, "too_large"),
        (web.HTTPBadRequest(text="canary"), 400, "invalid_call"),
    ],
)
async def test_what_the_library_refuses_has_our_form(raised: web.HTTPException, status: int, code: str) -> None:
    """And none of its texts."""
    reply = await answer(raised)
    assert (reply.status, reply.code) == (status, code)
    assert b"canary" not in reply.body


@pytest.mark.parametrize("path", ["/%ff%fe", "/%ED%A0%80", "/%00", "/" + "x" * 5000, "/a%22b%0D%0Ac"])
async def test_a_path_of_any_bytes_is_answered(path: str) -> None:
    """Shortened, and never a fault."""
    async with serving(RuntimeError()) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
    assert said.startswith(b"HTTP/1.1 404 ")
    assert b'"invalid_call"' in said
    assert len(said) < 1500


async def test_cancellation_is_not_answered() -> None:
    """It goes on up: nobody waits for an answer."""

    async def handler(_: web.Request) -> web.StreamResponse:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await rescue(None, handler)  # type: ignore[arg-type]  # the request is not looked at


def batch(dialect: Dialect = Dialect.NATIVE, *, many: bool = False) -> Batch:
    return Batch(dialect=dialect, items=(READ,), many=many)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (batch(), 429),
        (batch(many=True), 200),
        *((batch(dialect), 200) for dialect in Dialect if dialect is not Dialect.NATIVE),
    ],
)
def test_only_a_single_native_refusal_has_its_status(given: Batch, status: int) -> None:
    """To a model it is a result; a list says it item by item."""
    response = answered([REFUSED], given)
    assert response.status == status
    assert ("retry-after" in response.headers) is (status == 429)


def test_headers_name_each_call_and_its_decision() -> None:
    """In order; none where policy was not asked."""
    response = answered([DONE, REFUSED], Batch(dialect=Dialect.NATIVE, items=(READ, READ), many=True))
    assert response.headers["x-sidegate-call-id"] == "i1,i2"
    assert response.headers["x-sidegate-decision"] == "allow,none"
    assert response.headers["traceparent"] == TRACE.traceparent


def test_small_responses_say_what_they_must() -> None:
    """Fields that are empty are left out; the limit is named."""
    bare: Any = refused(Refusal(Code.DENIED, "no")).body
    assert b"fix" not in bare
    assert b"approvers" not in bare
    assert "4096 bytes" in too_large(4096).message
    assert json_response(b"{}", headers={"etag": "x"}).headers["etag"] == "x"
