"""What every transport towards OPA keeps, whatever the other side does. The oracle on aiohttp's client keeps it too."""

import asyncio

import orjson
import pytest

from proxy.adapters.opa_transport import OpaFault
from tests.contracts.opa_server import RunningOpa, Talk, byte_server, http
from tests.contracts.policy_transport_faults import FaultContract
from tests.contracts.transport_kit import (
    DECISION,
    PATIENCE,
    echo,
    fault,
    once,
    then_wait,
)


class TransportContract(FaultContract):
    """Subclasses name the `client` class and bring the fixture `opa`."""

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
        async with self.to(opa.unix, deadline=PATIENCE) as client:
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
        two = {"connections": 2, "deadline": PATIENCE}
        async with byte_server(then_wait(b"")) as server, self.to(server.address, **two) as client:
            causes = await asyncio.gather(*(fault(client.post("/q", b"{}", {})) for _ in range(20)))
            assert set(causes) <= {"busy", "timeout"}
            assert server.most_open <= 2

    async def test_a_header_cannot_smuggle_another(self) -> None:
        async with byte_server(echo) as server, self.to(server.address) as client:
            with pytest.raises(ValueError):
                await client.post("/q", b"{}", {"tracestate": "a=b\r\nX-Evil: 1"})
            assert server.requests == []
