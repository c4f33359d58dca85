"""Cases of section 10: audit and redaction (C073-C076), through the running sidecar."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.holds import resume, review_of
from tests.e2e.rig import CREDENTIAL, REPO, Rig, native, rig, tool
from tests.suites.cases.kit import everything_written, journal_is_strict, says
from tests.telemetry.receiver import Receiver, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRETS = ("sk-test-c073", "p1-c073", "t1-c073", "s1-c073", "u1-c073")
ARGUMENTS: dict[str, Any] = {
    "body": json.dumps({"api_key": SECRETS[0]}),
    "db": {"password": SECRETS[1], "host": "db-kept-c073"},
    "authToken": SECRETS[2],
    "list": [{"secret": SECRETS[3], "name": "name-kept-c073"}],
    "url": f"https://x.example/?access_token={SECRETS[4]}",
}
ROLES = {path: {"role": "secret"} for path in ("body", "db.password", "authToken", "list.secret", "url")}
OBJECT = {"type": "object", "properties": {"password": {"type": "string"}, "host": {"type": "string"}}}
ITEMS = {
    "type": "array",
    "items": {"type": "object", "properties": {"secret": {"type": "string"}, "name": {"type": "string"}}},
}
PROPERTIES = {
    "body": {"type": "string"},
    "db": OBJECT,
    "authToken": {"type": "string"},
    "list": ITEMS,
    "url": {"type": "string"},
}
HEADERS = {
    "proxy_authorization": "Basic hdr1-c073",
    "x_amz_security_token": "hdr2-c073",
    "cookie": "session=hdr3-c073",
    "x_api_key": "hdr4-c073",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Rig, Receiver]]:
    """A sidecar that exports its spans and copies its journal to standard output, with tools whose arguments are secret."""
    async with receiving() as receiver, rig(tmp_path_factory.mktemp("watched")) as made:
        made.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        made.settings |= {"audit_copy": True, "opa": {"deadline": "5s"}}
        made.policy["review"]["risks"] = {"high": {}}
        for name, risk in (("leak", "low"), ("leak_held", "high")):
            request = {"method": "POST", "path": f"/{name}", "body": {key: key for key in ARGUMENTS}}
            made.catalog["tools"].append(
                tool(name, "inventory", "read", request, properties=PROPERTIES, arguments=ROLES, risk=risk)
            )
        await made.start()
        yield made, receiver
        await made.sound()


WAYS: dict[str, Any] = {
    "echoed in a result": None,
    "echoed in an error": says(json.dumps(ARGUMENTS).encode(), status="500 No"),
    "echoed in a client error": says(json.dumps({"bad": ARGUMENTS}).encode(), status="422 No"),
    "echoed in a page": says(json.dumps(ARGUMENTS).encode(), media_type="text/html"),
    "echoed and cut": says(json.dumps(ARGUMENTS).encode()[:-1]),
}


@pytest.mark.parametrize("way", WAYS)
async def test_c073_no_secret_is_written_anywhere(watched: tuple[Rig, Receiver], way: str) -> None:
    """Declared secrets, in nested objects, lists, texts of JSON and URLs, and the headers that carry some: in no record, log
    line, span, copy or error text, whatever the upstream does with them. The upstream has the real values and no headers."""
    made, receiver = watched
    handle = await made.register("c073")
    made.upstream.received.clear()
    made.upstream.answer = WAYS[way]
    answer = await made.send(handle, "leak", ARGUMENTS, **HEADERS)
    (sent,) = made.upstream.received
    assert json.loads(sent.body) == ARGUMENTS
    assert "hdr" not in json.dumps(sent.headers)
    if WAYS[way] is not None:
        assert answer.code
        assert "c073" not in json.dumps(answer.body)
    await receiver.until(lambda r: bool(r.of_trace(answer.body["trace_id"])))
    await made.ended(answer.call_id)
    written = everything_written(made) + "".join(received.body.decode("latin-1") for received in receiver.received)
    assert [word for word in (*SECRETS, "hdr1", "hdr2", "hdr3", "hdr4", CREDENTIAL) if word in written] == []
    (intent,) = made.records(kind="intent", call=answer.call_id)
    masked = intent["arguments"]
    assert intent["input"]["call"]["arguments"] == masked
    assert masked.keys() == ARGUMENTS.keys()
    assert (masked["db"]["host"], masked["list"][0]["name"]) == ("db-kept-c073", "name-kept-c073")


@pytest.mark.parametrize(
    "wrong",
    [{"body": 5}, {"authToken": ["t1-c073"]}, {"db": "p1-c073"}, {"extra": "s1-c073"}, {"list": {"secret": "s1-c073"}}],
)
async def test_c073_a_refused_call_keeps_its_secrets_too(watched: tuple[Rig, Receiver], wrong: dict[str, Any]) -> None:
    """A secret in the wrong place or form is refused; neither sentence nor record repeats a value."""
    made, _ = watched
    handle = await made.register("c073r")
    answer = await made.send(handle, "leak", ARGUMENTS | wrong)
    assert answer.code == "invalid_arguments"
    record = await made.ended(answer.call_id)
    assert [word for word in SECRETS if word in json.dumps(answer.body) + json.dumps(record)] == []


async def test_c074_masking_is_of_a_copy(watched: tuple[Rig, Receiver]) -> None:
    """Held, shown twice, resumed: the record and the review are masked alike, the upstream has the originals, the agent has the
    upstream's answer, and every line of the journal is JSON."""
    made, _ = watched
    handle = await made.register("c074")
    made.upstream.answer = None
    held = await made.send(handle, "leak_held", ARGUMENTS)
    shown = [(await made.review("GET", f"/v1/reviews/{review_of(held)}"))[1] for _ in range(2)]
    assert shown[0] == shown[1]
    assert not any(word in json.dumps(shown) for word in SECRETS)
    assert (await made.approve(review_of(held)))[0] == 200
    status, answer = await made.post(f"/v1/tool-calls/{held.call_id}/resume", b"", handle)
    assert status == 200
    assert json.loads(answer["result"]["body"]) == ARGUMENTS
    assert json.loads(made.upstream.received[-1].body) == ARGUMENTS
    (intent,) = made.records(kind="intent", conversation="c074")
    assert intent["arguments"] == shown[0]["arguments"]
    assert (await resume(made, held, handle))[0] == 409
    journal_is_strict(made)


async def test_c076_a_segment_that_is_deleted_is_noticed(prepared: Rig) -> None:
    """Somebody removes the file that is written to: no call is answered on the strength of records that are gone; the next ones
    go to a new segment without a restart, and `audit verify` says that something is missing. (Full, read-only and limited
    files: tests/e2e/test_unwritable.py; a copy to a closed pipe: tests/adapters/test_journal_copy.py.)"""
    await prepared.start()
    handle = await prepared.register("c076")
    assert (await prepared.send(handle, "get_stock")).status == 200
    journal = prepared.folder / "state" / "journal"
    for path in journal.glob("*.jsonl"):
        path.unlink()
    order = {"sku": "S", "quantity": 1}
    lost = await prepared.send(handle, "create_order", order)
    assert lost.code == "audit_unavailable"
    assert (await prepared.send(handle, "create_order", order)).status == 200
    assert [r.target for r in prepared.upstream.received] == ["/stock/SKU-1", "/orders"]
    command = [sys.executable, "-m", "proxy.cli", "audit", "verify", "--dir", str(journal)]
    said = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - a moment
    assert "segments before it were not among what was read" in said.stdout + said.stderr


async def test_c076_a_segment_that_is_moved_away_loses_nothing(prepared: Rig) -> None:
    """Moved back, the chain is whole: what was written meanwhile is in the moved file."""
    await prepared.start()
    handle = await prepared.register("c076m")
    (segment,) = (prepared.folder / "state" / "journal").glob("*.jsonl")
    segment.rename(prepared.folder / "elsewhere")
    assert (await prepared.send(handle, "get_stock")).status == 200
    (prepared.folder / "elsewhere").rename(segment)
    await prepared.sound()
    assert len(prepared.records(kind="terminal")) == 1


async def test_c076_refused_bodies_cannot_fill_the_journal(prepared: Rig) -> None:
    """Unreadable bodies leave a bounded number of bytes each, however large they were."""
    await prepared.start()
    handle = await prepared.register("c076f")
    before = size_of(prepared)
    for _ in range(30):
        await prepared.post("/v1/tool-calls", native("get_stock", {"sku": "x" * 100_000})[:-1], handle)
    assert size_of(prepared) - before < 30 * 2000


def size_of(made: Rig) -> int:
    """Bytes of the journal's records."""
    return sum(path.stat().st_size for path in (made.folder / "state" / "journal").glob("*.jsonl"))
