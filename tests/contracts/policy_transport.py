"""What every transport towards OPA keeps, whatever the other side does. The oracle on aiohttp's client keeps it too."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import orjson
import pytest
from opa_client import AsyncOpaClient

from proxy.adapters.opa_transport import OpaFault, split_address
from tests.contracts.opa_server import RunningOpa, Script, Talk, byte_server, free_port, http

DECISION = "/v1/data/sidegate/decision/decision?strict-builtin-errors=true"
PATIENCE = 0.25  # seconds, the deadline of most tests
MARGIN = 2.0  # seconds that a busy machine may add


class Client(Protocol):
    """What is tested: a transport inside `async with`."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]: ...

    async def query_rule(self, input_data: Any, package_path: str, rule_name: str) -> Any: ...

    async def check_health(self, query: Mapping[str, bool] | None = None) -> bool: ...


class AiohttpOpaClient(AsyncOpaClient):  # type: ignore[misc]  # the package ships no types
    """The oracle: the API of SidecarOpaClient on aiohttp's own client."""

    def __init__(
        self, address: str, *, deadline: float = PATIENCE, connections: int = 32, max_body: int = 1 << 20
    ) -> None:
        self._path, host, port = split_address(address)
        super().__init__(host, port, timeout=deadline, retries=0)
        self._limit = connections
        self._max_body = max_body

    async def _init_session(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._path, limit=self._limit)
            if self._path is not None
            else aiohttp.TCPConnector(limit=self._limit),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            trace_configs=[trace],
        )

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """As SidecarOpaClient's."""
        used: dict[str, bool] = {}
        try:
            return await self._once(path, body, headers, used)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as e:
            if isinstance(e, aiohttp.ClientConnectorError):
                raise OpaFault("unreachable") from None
            if not used.get("reused"):
                raise OpaFault("closed") from None
        try:
            return await self._once(path, body, headers, used)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise OpaFault("closed") from None

    async def _once(
        self, path: str, body: bytes, headers: Mapping[str, str], used: dict[str, bool]
    ) -> tuple[int, str, bytes]:
        sent = {"Content-Type": "application/json", **headers}
        url = f"http://{self.host}:{self.port}{path}"
        try:
            async with self._session.post(
                url, data=body, headers=sent, allow_redirects=False, trace_request_ctx=used
            ) as answer:
                return answer.status, _media_type(answer), await self._read(answer)
        except TimeoutError:
            raise OpaFault("timeout") from None
        except aiohttp.ClientPayloadError:
            raise OpaFault("closed") from None
        except aiohttp.ClientResponseError:
            raise OpaFault("malformed") from None

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > self._max_body:
                answer.close()
                raise OpaFault("too_large")
        return bytes(body)


async def _note_reuse(session: Any, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx["reused"] = True


def _media_type(answer: aiohttp.ClientResponse) -> str:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise OpaFault("media_type")
    return media_type


async def echo(talk: Talk) -> None:
    while True:
        _, body = await talk.request()
        await talk.send(http(body))


def once(answer: bytes) -> Script:
    """Send these bytes to one request, then close."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(answer)

    return script


def then_wait(answer: bytes) -> Script:
    """Send these bytes to one request, then wait for the client to hang up."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(answer)
        await talk.hung_up()

    return script


async def fault(call: Awaitable[object]) -> str:
    """The cause of a call's failure, which came within the deadline."""
    started = time.monotonic()
    with pytest.raises(OpaFault) as caught:
        await call
    assert time.monotonic() - started < PATIENCE + MARGIN
    return caught.value.cause


class TransportContract:
    """Subclasses name the `client` class and bring the fixture `opa`."""

    client: Callable[..., Any]

    @asynccontextmanager
    async def to(self, address: str, **options: Any) -> AsyncIterator[Client]:
        async with self.client(address, **{"deadline": PATIENCE, **options}) as client:
            yield client

    async def failure(self, script: Script, **options: Any) -> tuple[str, int]:
        """Cause of a first call's failure and how many requests were sent for it."""
        async with byte_server(script) as server, self.to(server.address, **options) as client:
            return await fault(client.post("/q", b"{}", {})), len(server.requests)

    @pytest.mark.parametrize("kind", ["unix", "tcp"])
    async def test_real_opa_answers_a_query(self, opa: RunningOpa, kind: str) -> None:
        async with self.to(getattr(opa, kind), deadline=5) as client:
            for number in range(3):
                body = orjson.dumps({"input": {"echo": {"n": number}}})
                status, media_type, answer = await client.post(DECISION, body, {})
                assert (status, media_type, orjson.loads(answer)) == (
                    200,
                    "application/json",
                    {"result": {"n": number}},
                )

    async def test_real_opa_answers_a_large_query_whole(self, opa: RunningOpa) -> None:
        """Beyond 2 KiB OPA answers in chunks."""
        async with self.to(opa.unix, deadline=5) as client:
            text = "x" * 500_000
            _, _, answer = await client.post(DECISION, orjson.dumps({"input": {"echo": {"t": text}}}), {})
            assert orjson.loads(answer) == {"result": {"t": text}}

    async def test_real_opas_error_is_an_answer_and_not_a_fault(self, opa: RunningOpa) -> None:
        async with self.to(opa.unix, deadline=5) as client:
            status, _, answer = await client.post(DECISION, b'{"input": {"zero": 0}}', {})
            assert (status, orjson.loads(answer)["code"]) == (500, "internal_error")

    async def test_the_package_api_works_on_top(self, opa: RunningOpa) -> None:
        async with self.to(opa.unix, deadline=5) as client:
            assert await client.check_health({"bundles": True})
            assert await client.query_rule({"names": ["a"]}, "sidegate.decision", "visible") == {"result": ["a"]}

    async def test_a_query_that_takes_a_real_opa_too_long_costs_the_deadline(self, opa: RunningOpa) -> None:
        async with self.to(opa.unix) as client:
            assert await fault(client.post(DECISION, b'{"input": {"slow": true}}', {})) == "timeout"

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_requests_arrive_as_given_on_one_kept_alive_connection(self, tcp: bool) -> None:
        async with byte_server(echo, tcp=tcp) as server, self.to(server.address) as client:
            for number in range(3):
                body = b'{"input":  %d}' % number
                assert (await client.post("/a?b=c", body, {"traceparent": "00-x"}))[2] == body
            assert server.connections == 1
            head = server.requests[0][0]
            assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            assert fields[b"traceparent"] == b"00-x"
            assert fields[b"content-type"] == b"application/json"
            assert b"cookie" not in fields

    async def test_a_chunked_answer_is_read_whole(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        script = then_wait(head + b'3\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n')
        async with byte_server(script) as server, self.to(server.address) as client:
            assert await client.post("/q", b"{}", {}) == (200, "application/json", b'{"a": 1}')

    async def test_an_answer_in_single_bytes_is_read_whole(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            for byte in http(b'{"result": 1}'):
                await talk.send(bytes([byte]))
                await asyncio.sleep(0)
            await talk.hung_up()

        async with byte_server(script) as server, self.to(server.address, deadline=5) as client:
            assert (await client.post("/q", b"{}", {}))[2] == b'{"result": 1}'

    async def test_nobody_listening_is_unreachable(self) -> None:
        for address in ("unix:///nowhere/s", f"127.0.0.1:{free_port()}"):
            async with self.to(address) as client:
                assert await fault(client.post("/q", b"{}", {})) == "unreachable"

    async def test_a_server_that_hangs_costs_the_deadline_and_loses_the_connection(self) -> None:
        async with byte_server(then_wait(b"")) as server, self.to(server.address) as client:
            assert await fault(client.post("/q", b"{}", {})) == "timeout"
            assert await asyncio.wait_for(server.ended.get(), 5) == 0
            assert len(server.requests) == 1

    async def test_a_slow_drip_costs_no_more_than_the_deadline(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            for byte in http(b"{}" + b" " * 5000):
                await talk.send(bytes([byte]))
                await asyncio.sleep(0.01)

        assert await self.failure(script) == ("timeout", 1)

    async def test_an_answer_cut_anywhere_is_a_fault_and_not_asked_again(self) -> None:
        whole = http(b'{"result": {"a": 1}}')
        for length in range(len(whole)):
            assert await self.failure(once(whole[:length])) == ("closed", 1)

    async def test_a_chunked_answer_cut_anywhere_is_a_fault(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in (b"", b"5", b'3\r\n{"a', b"2\r\n{}\r\n", b"2\r\n{}\r\n0\r\n"):
            assert await self.failure(once(head + body)) == ("closed", 1)

    async def test_an_answer_over_the_cap_is_refused_and_one_at_the_cap_is_not(self) -> None:
        assert await self.failure(then_wait(http(b"x" * 1001)), max_body=1000) == ("too_large", 1)
        async with (
            byte_server(then_wait(http(b"x" * 1000))) as server,
            self.to(server.address, max_body=1000) as client,
        ):
            assert len((await client.post("/q", b"{}", {}))[2]) == 1000

    async def test_an_endless_answer_ends_at_the_cap(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await talk.send(b"400\r\n" + b"x" * 1024 + b"\r\n")

        assert await self.failure(script, max_body=100_000) == ("too_large", 1)

    async def test_a_redirect_is_not_followed(self) -> None:
        for status in ("301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
            script = then_wait(http(b"{}", status, {"Location": "/other"}))
            async with byte_server(script) as server, self.to(server.address) as client:
                assert (await client.post("/q", b"{}", {}))[0] == int(status[:3])
                assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "status", ["500 Internal Server Error", "502 Bad Gateway", "503 Unavailable", "504 Timeout"]
    )
    async def test_an_error_status_is_never_asked_again(self, status: str) -> None:
        async with byte_server(_answering(http(b"{}", status))) as server, self.to(server.address) as client:
            for count in (1, 2):
                assert (await client.post("/q", b"{}", {}))[0] == int(status[:3])
                assert len(server.requests) == count

    async def test_another_media_type_or_none_is_refused(self) -> None:
        assert await self.failure(once(http(b"{}", headers={"Content-Type": "text/html"}))) == ("media_type", 1)
        assert await self.failure(once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) == ("media_type", 1)

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b'{"result": {"effect": "allow"}}',
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        ],
    )
    async def test_what_is_not_http_is_a_fault(self, answer: bytes) -> None:
        # aiohttp calls a broken chunk a payload error, which its oracle reads as closed.
        assert await self.failure(once(answer)) in {("malformed", 1), ("closed", 1)}

    async def test_headers_without_measure_are_a_fault(self) -> None:
        for padding in (f"X-Long: {'x' * 100_000}\r\n", "X-Many: x\r\n" * 10_000):
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{padding}"
            for end in ("", "Content-Length: 2\r\n\r\n{}"):
                cause, requests = await self.failure(then_wait((head + end).encode()))
                assert (cause in {"too_large", "malformed"}, requests) == (True, 1)

    async def test_a_kept_alive_connection_found_closed_is_replaced_once(self) -> None:
        async def script(talk: Talk) -> None:
            _, body = await talk.request()
            await talk.send(http(body))
            await talk.request()
            if talk.number == 1:
                await talk.send(http(b"wrong"))

        async with byte_server(script) as server, self.to(server.address) as client:
            assert (await client.post("/q", b"1", {}))[2] == b"1"
            assert (await client.post("/q", b"2", {}))[2] == b"2"
            assert server.connections == 2
            assert [body for _, body in server.requests] == [b"1", b"2", b"2"]

    async def test_a_connection_closed_while_idle_is_not_used(self) -> None:
        async with byte_server(once(http(b"{}"))) as server, self.to(server.address) as client:
            for count in (1, 2, 3):
                assert (await client.post("/q", b"{}", {}))[0] == 200
                await asyncio.wait_for(server.ended.get(), 5)
                assert server.connections == count

    async def test_the_replacement_is_not_replaced_again(self) -> None:
        async def script(talk: Talk) -> None:
            if talk.number == 0:
                await once(http(b"{}"))(talk)
            await talk.request()

        async with byte_server(script) as server, self.to(server.address) as client:
            await client.post("/q", b"{}", {})
            assert await fault(client.post("/q", b"{}", {})) == "closed"
            assert server.connections == 2

    async def test_a_kept_alive_connection_that_breaks_inside_an_answer_is_not_replaced(self) -> None:
        async def script(talk: Talk) -> None:
            await once(http(b"{}"))(talk)
            await once(http(b"{}")[:-1])(talk)

        async with byte_server(script) as server, self.to(server.address) as client:
            await client.post("/q", b"{}", {})
            assert await fault(client.post("/q", b"{}", {})) == "closed"
            assert (server.connections, len(server.requests)) == (1, 2)

    async def test_a_second_answer_in_one_packet_never_answers_the_next_call(self) -> None:
        async def script(talk: Talk) -> None:
            _, body = await talk.request()
            await talk.send(http(body) + (http(b'"poison"') if talk.number == 0 else b""))
            await talk.hung_up()

        async with byte_server(script) as server, self.to(server.address) as client:
            try:
                assert (await client.post("/q", b"1", {}))[2] == b"1"
            except OpaFault as e:
                assert e.cause == "malformed"  # noqa: PT017 - either is right: the first answer, or none
            assert (await client.post("/q", b"2", {}))[2] == b"2"
            assert server.connections == 2

    async def test_a_cancelled_caller_closes_its_connection_and_the_next_call_works(self) -> None:
        asked = asyncio.Event()

        async def script(talk: Talk) -> None:
            _, body = await talk.request()
            asked.set()
            if talk.number > 0:
                await talk.send(http(body))
            await talk.hung_up()

        async with byte_server(script) as server, self.to(server.address, deadline=30) as client:
            call = asyncio.create_task(client.post("/q", b"1", {}))
            await asyncio.wait_for(asked.wait(), 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.wait_for(server.ended.get(), 5) == 0
            assert (await client.post("/q", b"2", {}))[2] == b"2"

    async def test_no_more_connections_than_allowed_and_each_caller_gets_its_own_answer(self) -> None:
        async with byte_server(echo) as server, self.to(server.address, connections=4, deadline=10) as client:
            bodies = [b"%d" % number for number in range(100)]
            answers = await asyncio.gather(*(client.post("/q", body, {}) for body in bodies))
            assert [answer for _, _, answer in answers] == bodies
            assert server.most_open == 4

    async def test_who_waits_for_a_connection_is_refused_within_the_deadline(self) -> None:
        async with byte_server(then_wait(b"")) as server, self.to(server.address, connections=2) as client:
            causes = await asyncio.gather(*(fault(client.post("/q", b"{}", {})) for _ in range(20)))
            assert set(causes) <= {"busy", "timeout"}
            assert server.most_open <= 2

    async def test_a_header_cannot_smuggle_another(self) -> None:
        async with byte_server(echo) as server, self.to(server.address) as client:
            with pytest.raises(ValueError):
                await client.post("/q", b"{}", {"tracestate": "a=b\r\nX-Evil: 1"})
            assert server.requests == []


def _answering(answer: bytes) -> Script:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.send(answer)

    return script
