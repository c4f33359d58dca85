"""The transport on llhttp and its oracle on aiohttp keep one contract; below it, what only ours promises."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from proxy.adapters.http_connection import HttpConnection, Request
from proxy.adapters.opa_transport import OpaFault, SidecarOpaClient, split_address
from tests.contracts.aiohttp_opa import AiohttpOpaClient
from tests.contracts.opa_server import RunningOpa, Talk, byte_server, http, running_opa, until
from tests.contracts.policy_transport import TransportContract
from tests.contracts.transport_kit import echo, fault, once, then_wait


@pytest.fixture(scope="module")
def opa() -> Iterator[RunningOpa]:
    with running_opa() as opa:
        yield opa


class TestOracle(TransportContract):
    client = AiohttpOpaClient


class TestSidecarOpaClient(TransportContract):
    client = SidecarOpaClient

    async def test_bytes_that_come_while_idle_never_answer_the_next_call(self) -> None:
        """aiohttp's client fails this one: it keeps such bytes and reads them as the next answer."""
        sent, answered = asyncio.Event(), asyncio.Event()

        async def script(talk: Talk) -> None:
            _, body = await talk.request()
            await talk.send(http(body))
            if talk.number == 0:
                await answered.wait()
                await talk.send(http(b'"poison"'))
                sent.set()
            await talk.hung_up()

        async with byte_server(script) as server, self.to(server.address) as client:
            assert (await client.post("/q", b"1", {}))[2] == b"1"
            answered.set()
            await asyncio.wait_for(sent.wait(), 5)
            assert await asyncio.wait_for(server.ended.get(), 5) == 0
            assert (await client.post("/q", b"2", {}))[2] == b"2"

    async def test_an_informational_answer_is_malformed(self) -> None:
        """Nobody asked for 100 Continue or an upgrade; aiohttp's client would wait for what follows."""
        for head in (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ):
            assert await self.failure(then_wait(head + http(b"{}"))) == ("malformed", 1)

    async def test_an_answer_that_only_the_end_of_the_connection_delimits_is_not_believed(self) -> None:
        """It cannot be told from one that was cut."""
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"
        assert await self.failure(once(answer)) == ("closed", 1)

    async def test_a_connection_that_the_server_means_to_close_is_not_used_again(self) -> None:
        script = then_wait(http(b"{}", headers={"Connection": "close"}))
        async with byte_server(script) as server, self.to(server.address) as client:
            await client.post("/q", b"{}", {})
            assert await asyncio.wait_for(server.ended.get(), 5) == 0
            await client.post("/q", b"{}", {})
            assert server.connections == 2

    async def test_bytes_between_an_answer_and_its_reading_end_the_connection(self) -> None:
        async with byte_server(then_wait(b"")) as server, SidecarOpaClient(server.address) as client:
            connection, soon = HttpConnection(lambda _: None), asyncio.get_running_loop().time() + 60
            await client._connect(connection)
            call = asyncio.create_task(
                connection.exchange(Request(data=b"GET / HTTP/1.1\r\n\r\n", most=9, deadline=soon))
            )
            await until(lambda: len(server.requests) == 1)
            connection.data_received(http(b"1"))
            connection.data_received(http(b"2"))
            assert (await call).body == b"1"
            assert not connection.usable

    async def test_trailers_are_measured_too(self) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        )
        trailers = b"Content-Type: text/html\r\n"
        async with byte_server(then_wait(head + trailers + b"\r\n")) as server, self.to(server.address) as client:
            assert (await client.post("/q", b"{}", {}))[1] == "application/json"
        assert await self.failure(then_wait(head + trailers * 2000 + b"\r\n")) == ("too_large", 1)

    async def test_who_never_got_a_connection_was_refused_as_busy(self) -> None:
        asked = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            asked.set()
            await talk.hung_up()

        async with (
            byte_server(script) as server,
            SidecarOpaClient(server.address, deadline=30, connections=1) as client,
        ):
            holder = asyncio.create_task(client.post("/q", b"{}", {}))
            await asyncio.wait_for(asked.wait(), 5)
            client.timeout = 0.05
            assert await fault(client.post("/q", b"{}", {})) == "busy"
            holder.cancel()
            assert await fault(client.post("/q", b"{}", {})) == "timeout"
            assert server.most_open == 1

    async def test_before_it_is_open_and_after_it_is_closed_it_is_unreachable(self) -> None:
        async with byte_server(echo) as server:
            client = SidecarOpaClient(server.address)
            assert await fault(client.post("/q", b"{}", {})) == "unreachable"
            async with client:
                await client.post("/q", b"{}", {})
            assert await fault(client.post("/q", b"{}", {})) == "unreachable"
            assert await asyncio.wait_for(server.ended.get(), 5) == 0

    async def test_closing_ends_a_call_in_flight(self) -> None:
        asked = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            asked.set()
            await talk.hung_up()

        async with byte_server(script) as server:
            async with SidecarOpaClient(server.address, deadline=30) as client:
                call = asyncio.create_task(client.post("/q", b"{}", {}))
                await asyncio.wait_for(asked.wait(), 5)
            with pytest.raises(OpaFault, match="closed"):
                await call

    async def test_a_patch_is_never_sent_twice(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(http(b"{}"))
            await talk.request()

        async with byte_server(script) as server, SidecarOpaClient(server.address) as client:
            await client.post("/q", b"{}", {})
            assert await fault(client.patch_data("x", [])) == "closed"
            assert [head.split(b" ")[0] for head, _ in server.requests] == [b"POST", b"PATCH"]

    async def test_the_package_api_can_write_and_read(self, opa: RunningOpa) -> None:
        async with SidecarOpaClient(opa.unix, deadline=5) as client:
            assert await client.update_or_create_data({"a": 1}, "scratch")
            assert await client.patch_data("scratch", [{"op": "add", "path": "/b", "value": 2}])
            assert await client.get_data("scratch") == {"result": {"a": 1, "b": 2}}
            assert "go_gc_duration_seconds" in await client.get_metrics()
            with pytest.raises(OpaFault, match="status"):
                await client.query_rule({"zero": 0}, "sidegate.decision", "decision", {"strict-builtin-errors": True})

    async def test_it_talks_to_no_other_address(self) -> None:
        async with byte_server(echo) as server, SidecarOpaClient(server.address) as client:
            with pytest.raises(ValueError, match="address"):
                await client._request("GET", "http://elsewhere:80/x").__aenter__()

    async def test_a_token_goes_with_every_request(self) -> None:
        async with byte_server(echo) as server, SidecarOpaClient(server.address, token="t0k") as client:
            await client.post("/q", b"{}", {})
            assert b"\r\nAuthorization: Bearer t0k\r\n" in server.requests[0][0]

    @pytest.mark.parametrize("path", ["/a b", "a", "", "/a\r\nX: y", "/ä", "http://x/"])
    async def test_a_path_that_http_cannot_carry_is_not_sent(self, path: str) -> None:
        async with byte_server(echo) as server, SidecarOpaClient(server.address) as client:
            with pytest.raises(ValueError, match="HTTP"):
                await client.post(path, b"{}", {})
            assert server.requests == []


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The same test, run on the loop of production, which brings transports of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class TestSidecarOpaClientOnUvloop(TestSidecarOpaClient):
    pass


for _name in dir(TestSidecarOpaClient):
    if _name.startswith("test_"):
        setattr(TestSidecarOpaClientOnUvloop, _name, on_uvloop(getattr(TestSidecarOpaClient, _name)))


def test_an_address_is_a_unix_socket_or_a_host_with_a_port() -> None:
    assert split_address("unix:///run/o.sock") == ("/run/o.sock", "localhost", 8181)
    assert split_address("127.0.0.1:8181") == (None, "127.0.0.1", 8181)
    assert split_address("[::1]:8181") == (None, "[::1]", 8181)


@pytest.mark.parametrize(
    "address", ["", "opa", "opa:", ":8181", "opa:x", "opa:0", "opa:70000", "http://opa:8181", "unix://o.sock"]
)
def test_any_other_address_is_refused_with_the_two_forms(address: str) -> None:
    with pytest.raises(ValueError, match="unix:///path or host:port"):
        split_address(address)
