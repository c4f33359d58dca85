"""Whose a record is, asked of an upstream; whatever is not clear is unavailable."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.adapters.credentials import Credentials
from proxy.adapters.http_exchange import HttpExchange
from proxy.adapters.http_facts import HttpFacts
from proxy.core.tool import ResourceSource, Upstream
from proxy.errors import Code, Ran, Refusal
from proxy.model import Resource
from tests.adapters.byte_server import ByteServer, answer, free_port, hang, raw, serving
from tests.contracts.executor import SECRET, TRACE, SteppedClock


class Desk:
    """A fact source before a server on loopback."""

    def __init__(self, server: ByteServer, credentials: Credentials) -> None:
        self.server = server
        self.exchange = HttpExchange(SteppedClock())
        self.facts = HttpFacts(self.exchange, credentials, seconds=1.0)
        self.url = server.url
        self.kind = "http"

    async def look_up(self, record_id: str = "42", *, credential: str | None = "key") -> Resource:
        """One look-up of a customer."""
        upstream = Upstream(name="crm", kind=self.kind, url=self.url, credential=credential)  # type: ignore[arg-type] # a text
        source = ResourceSource(
            type="customer", upstream=upstream, path="/customers/{id}", owner="owner.id", tenant="tenant"
        )
        return await self.facts.resource(source, "customer_id", record_id, TRACE)

    async def unavailable(self, record_id: str = "42", *, credential: str | None = "key") -> Refusal:
        """One look-up that must fail."""
        with pytest.raises(Refusal) as caught:
            await self.look_up(record_id, credential=credential)
        assert (caught.value.code, caught.value.ran) == (Code.FACTS_UNAVAILABLE, Ran.NO)
        assert "customer" in caught.value.message
        assert not [word for word in ("127.0.0.1", "http://", SECRET, "Error") if word in caught.value.message]
        return caught.value


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    file = tmp_path / "key"
    file.write_text(SECRET)
    file.chmod(0o600)
    credentials = Credentials({"key": {"bearer_file": str(file)}}, {}, SteppedClock(), pytest.fail)
    async with serving() as server:
        desk = Desk(server, credentials)
        yield desk
        await desk.exchange.close()


async def test_owner_and_tenant_are_read_by_their_paths(desk: Desk) -> None:
    desk.server.script = [answer(b'{"owner": {"id": "ada", "x": 1}, "tenant": "acme"}')]
    resource = await desk.look_up()
    assert resource == Resource(argument="customer_id", type="customer", id="42", owner="ada", tenant="acme")
    [request] = desk.server.received
    assert (request.method, request.target) == (b"GET", b"/v2/customers/42")
    assert request.values("authorization") == [f"Bearer {SECRET}".encode()]
    assert request.values("traceparent") == [TRACE.traceparent.encode()]


async def test_numbers_are_their_tokens_and_null_is_nobody(desk: Desk) -> None:
    desk.server.script = [answer(b'{"owner": {"id": 12345678901234567890.10}, "tenant": null}')]
    resource = await desk.look_up()
    assert (resource.owner, resource.tenant) == ("12345678901234567890.10", None)


async def test_a_record_that_is_not_found_is_nobodys(desk: Desk) -> None:
    desk.server.script = [answer(b'{"owner": {"id": "ada"}, "tenant": "acme"}', b"404 Not Found")]
    resource = await desk.look_up()
    assert (resource.owner, resource.tenant) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"owner": {"id": true}, "tenant": "t"}',
        b'{"owner": {"id": ["ada"]}, "tenant": "t"}',
        b'{"owner": {"id": {}}, "tenant": "t"}',
        b'{"owner": {"id": ""}, "tenant": "t"}',
        b'{"owner": "ada", "tenant": "t"}',
        b'{"owner": {}, "tenant": "t"}',
        b'{"owner": {"id": "ada"}}',
        b'[{"owner": {"id": "ada"}, "tenant": "t"}]',
        b"null",
        b"",
        b'{"owner": {"id": "ada"}, "tenant": "t"',
        b'{"owner": {"id": "ada"}, "tenant": "t", "tenant": "u"}',
        b'{"owner": {"id": "ada"}, "tenant": NaN}',
        b'{"owner": {"id": "ada"}, "tenant": "' + b"t" * 65536 + b'"}',
    ],
)
async def test_an_answer_that_is_not_clear_is_unavailable(desk: Desk, body: bytes) -> None:
    desk.server.script = [answer(body)]
    await desk.unavailable()


@pytest.mark.parametrize(
    "status", [b"201 Made", b"204 None", b"302 Found", b"401 Who", b"403 No", b"410 Gone", b"500 Oops"]
)
async def test_any_other_status_is_unavailable(desk: Desk, status: bytes) -> None:
    desk.server.script = [answer(b'{"owner": {"id": "ada"}, "tenant": "t"}', status)]
    await desk.unavailable()


async def test_faults_are_unavailable_in_bounded_time_and_sent_once(desk: Desk) -> None:
    for behaviour in (hang(), raw(b"", then="reset"), raw(b"HTTP/1.1 200 OK\r\nContent-Le", then="close")):
        desk.server.received.clear()
        desk.server.script = [behaviour]
        await desk.unavailable()
        assert len(desk.server.received) == 1
    desk.url = f"http://127.0.0.1:{free_port()}"
    await desk.unavailable()


@pytest.mark.parametrize(
    ("record_id", "segment"),
    [("a/admin", b"a%2Fadmin"), ("a?b=c#d", b"a%3Fb%3Dc%23d"), ("%61", b"%2561"), ("a\r\nb", b"a%0D%0Ab")],
)
async def test_an_id_is_one_encoded_segment(desk: Desk, record_id: str, segment: bytes) -> None:
    desk.server.script = [answer(b"", b"404 Not Found")]
    await desk.look_up(record_id)
    assert desk.server.received[0].target == b"/v2/customers/" + segment


@pytest.mark.parametrize("record_id", ["", ".", "..", "../admin", "%2e%2e"])
async def test_an_id_that_cannot_be_a_segment_is_the_callers_fault_and_never_asked_for(
    desk: Desk, record_id: str
) -> None:
    """To come back later would not help."""
    with pytest.raises(Refusal, match="customer_id names no customer") as caught:
        await desk.look_up(record_id)
    assert (caught.value.code, caught.value.ran) == (Code.INVALID_ARGUMENTS, Ran.NO)
    assert desk.server.received == []


async def test_without_its_credential_nothing_is_asked(desk: Desk) -> None:
    await desk.unavailable(credential="other")
    assert desk.server.received == []


async def test_a_credential_never_becomes_a_fact(desk: Desk) -> None:
    desk.server.script = [answer(f'{{"owner": {{"id": "{SECRET}"}}, "tenant": "t"}}'.encode())]
    await desk.unavailable()


async def test_a_source_that_is_not_http_is_unavailable(desk: Desk) -> None:
    desk.kind = "mcp"
    await desk.unavailable()
    assert desk.server.received == []
