"""Canaries: what must not be told occurs in no record, log, metric, span or answer (design sections 3, 15, 16, 17)."""

import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.holds import review_of
from tests.e2e.rig import CREDENTIAL, Received, Rig, reply, rig
from tests.telemetry.receiver import Receiver, receiving

SECRET = "canary-secret-argument"
ARGUMENT = "canary-plain-argument"
RESULT = "canary-in-a-result"
BAD_TOKEN = "canary-token-" + "t" * 30
BAD_HANDLE = "canary-handle-" + "h" * 30
BAGGAGE = "canary-in-baggage"


@pytest_asyncio.fixture(loop_scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Rig, Receiver]]:
    """A sidecar at log level debug that exports every span."""
    async with receiving() as receiver, rig(tmp_path_factory.mktemp("traced")) as made:
        made.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        made.arguments = ["--log-level", "debug"]
        made.policy["combination"] = [
            {
                "name": "logins",
                "marks": ["system:suppliers", "system:inventory"],
                "then": "review",
                "message": "suppliers and log-ins do not meet",
                "approvers": ["sourcing-leads"],
            }
        ]
        await made.start()
        yield made, receiver


async def everything(made: Rig, receiver: Receiver, answers: list[object]) -> dict[str, str]:
    """All that has left the sidecar, by where it went."""
    async with made.session.get(made.url("probe") + "/metrics") as response:
        metrics = await response.text()
    _, reviews = await made.review("GET", "/v1/reviews?status=all")
    shown = [(await made.review("GET", f"/v1/reviews/{review['id']}"))[1] for review in reviews]
    _, status = await made.review("GET", "/v1/status")
    await made.stop()
    files = [p for p in (made.folder / "state").rglob("*") if p.is_file() and p.suffix != ".gz"]
    return {
        "journal": "".join(p.read_bytes().decode(errors="replace") for p in files if p.suffix == ".jsonl"),
        "state": "".join(p.read_bytes().decode("latin-1") for p in files if p.suffix != ".jsonl"),
        "log": made.log(),
        "metrics": metrics,
        "spans": "".join(str(received.message) for received in receiver.received),
        "bytes of spans": "".join(received.body.decode("latin-1") for received in receiver.received),
        "reviews": json.dumps(shown),
        "status": json.dumps(status),
        "answers": json.dumps(answers),
    }


async def test_no_canary_is_told(traced: tuple[Rig, Receiver]) -> None:
    """Good, refused, held, failed and forged calls, and then a look at all that was written anywhere."""
    made, receiver = traced
    answers: list[object] = []
    handle = await made.register("c1", text="hello")

    async def leaking(_: Received, writer: object) -> None:
        await reply(writer, json.dumps({"note": RESULT, "key": CREDENTIAL}).encode())  # type: ignore[arg-type]  # a writer

    async def failing(_: Received, writer: object) -> None:
        await reply(writer, CREDENTIAL.encode(), status="500 No", media_type="text/plain")  # type: ignore[arg-type]  # see above

    log_in = {"user": ARGUMENT, "password": SECRET}
    ok = await made.send(handle, "log_in", log_in, baggage=f"x={BAGGAGE}")
    assert ok.status == 200
    for answering in (leaking, failing):
        made.upstream.answer = answering
        answers.append((await made.send(handle, "log_in", log_in)).body)
    made.upstream.answer = None
    answers.append((await made.send(handle, "log_in", {**log_in, "extra": 1})).body)
    answers.append((await made.send(BAD_HANDLE, "log_in", log_in)).body)
    by_token = {"authorization": f"Bearer {BAD_TOKEN}", "x_conversation_id": "c1"}
    answers.append((await made.send(None, "log_in", log_in, **by_token)).body)
    answers.append((await made.put("c2", BAD_TOKEN))[1])
    assert (await made.send(handle, "get_terms")).code == "review_pending"
    other = await made.register("c3")
    assert (await made.send(other, "get_terms")).status == 200
    held = await made.send(other, "log_in", log_in)
    assert held.code == "review_pending"
    assert (await made.approve(review_of(held)))[0] == 200
    status, resumed = await made.post(f"/v1/tool-calls/{held.call_id}/resume", b"", other)
    assert status == 200
    broken = f"GET / HTTP/1.1\r\nauthorization: Bearer {BAD_TOKEN}\0\r\n\r\n".encode()
    answers.append((await made.raw(broken)).decode())
    answers.append((await made.get(f"/c/{handle}/v1/nothing"))[1])
    await receiver.until(lambda r: len(r.of_trace(resumed["trace_id"])) >= 3)
    told = await everything(made, receiver, answers)
    assert all(told.values())
    forbidden = {
        "secret argument": SECRET,
        "its base64": base64.b64encode(SECRET.encode()).decode(),
        "credential": CREDENTIAL,
        "user's token": made.users["ada"],
        "reviewer's token": made.reviewers["rob"],
        "handle": handle,
        "other handle": other,
        "forged token": BAD_TOKEN,
        "forged handle": BAD_HANDLE,
    }
    found = [(name, where) for name, canary in forbidden.items() for where, text in told.items() if canary in text]
    assert found == []
    rarely = {"plain argument": ARGUMENT, "result": RESULT, "baggage": BAGGAGE}
    places = ("log", "metrics", "spans", "bytes of spans", "status")
    assert [(name, where) for name, canary in rarely.items() for where in places if canary in told[where]] == []
    # The upstream got the real values all the same.
    assert any(SECRET in request.body.decode() for request in made.upstream.received)
    assert all(BAGGAGE not in str(request.headers) for request in made.upstream.received)
