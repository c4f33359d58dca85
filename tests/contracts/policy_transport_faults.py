"""What every transport towards OPA keeps when the other side refuses, hangs, cuts, floods or babbles."""

import asyncio

import pytest

from tests.contracts.opa_server import Script, Talk, byte_server, free_port, http
from tests.contracts.transport_kit import (
    PATIENCE,
    TransportTests,
    fault,
    once,
    then_wait,
)


class FaultContract(TransportTests):
    """A fault within the deadline, and nothing asked twice."""

    async def test_nobody_listening_is_unreachable(self) -> None:
        for address in ("unix:///nowhere/s", f"127.0.0.1:{free_port()}"):
            async with self.to(address) as client:
                assert await fault(client.post("/q", b"{}", {})) == "unreachable"

    async def test_a_server_that_hangs_costs_the_deadline_and_loses_the_connection(self) -> None:
        async with byte_server(then_wait(b"")) as server, self.to(server.address, deadline=PATIENCE) as client:
            assert await fault(client.post("/q", b"{}", {})) == "timeout"
            assert await asyncio.wait_for(server.ended.get(), 5) == 0
            assert len(server.requests) == 1

    async def test_a_slow_drip_costs_no_more_than_the_deadline(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            for byte in http(b"{}" + b" " * 5000):
                await talk.send(bytes([byte]))
                await asyncio.sleep(0.01)

        assert await self.failure(script, deadline=PATIENCE) == ("timeout", 1)

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


def _answering(answer: bytes) -> Script:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.send(answer)

    return script
