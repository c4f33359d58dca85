"""Every way out of the line, played by a real sidecar that sends its spans to a real Jaeger."""

import asyncio
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.jaeger import Jaeger, Told
from tests.e2e.rig import CREDENTIAL, Received, Rig, native, reply

CANARY = "canary-5d1f"
COMMENT = "canary-comment"


@dataclass(slots=True)
class Story:
    """What was played, by the name of the way out: call id and trace id. `rig` has stopped; its journal is there."""

    rig: Rig
    jaeger: Jaeger
    service: str
    calls: dict[str, tuple[str, str]] = field(default_factory=dict)
    review: str = ""
    agents: str = ""  # id of the agent's own span around the held call
    secrets: list[str] = field(default_factory=list)

    def spans(self, way: str) -> list[Told]:
        """The trace of one call."""
        return self.jaeger.trace(self.calls[way][1])

    def server(self, way: str) -> Told:
        """The SERVER span of one call."""
        (found,) = [
            s
            for s in self.spans(way)
            if s.attributes.get("sidegate.decision_id") == self.calls[way][0] and s.kind == "server"
        ]
        return found

    def record(self, way: str) -> dict[str, Any]:
        """The terminal record of one call."""
        (found,) = self.rig.records(kind="terminal", call=self.calls[way][0])
        return found


async def upstream(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answers with a canary; for SKUs called fails, echoes and hangs it does that."""
    if request.target.endswith("/fails"):
        await reply(writer, b"{}", status="500 Oops")
    elif request.target.endswith("/echoes"):
        await reply(writer, json.dumps({"debug": CREDENTIAL}).encode())
    elif not request.target.endswith("/hangs"):
        await reply(writer, json.dumps({"secret": CANARY}).encode())


def maps(pid: int) -> str:
    """The libraries that a process has loaded."""
    with open(f"/proc/{pid}/maps") as file:  # noqa: PTH123 - no file that a path could help with
        return file.read()


async def play(told: Story, way: str, handle: str | None, tool: str, arguments: Any = None, **headers: str) -> Any:
    """One call, remembered."""
    answer = await told.rig.send(handle, tool, arguments, name_it=f"toolu-{way}", **headers)
    told.calls[way] = (answer.call_id, answer.headers["traceparent"].split("-")[1])
    return answer


async def held_and_approved(told: Story) -> None:
    """In the agent's own trace; the person takes their time."""
    made = told.rig
    handle = await made.register("c-held")
    told.secrets += [handle, made.users["ada"], made.reviewers["rob"]]
    for name in ("get_stock", "get_terms"):
        await play(told, name, handle, name, {"sku": CANARY})
    began = time.time_ns()
    trace, told.agents = secrets.token_hex(16), secrets.token_hex(8)
    traceparent = f"00-{trace}-{told.agents}-00"
    held = await play(told, "held", handle, "get_price", {"sku": CANARY}, traceparent=traceparent)
    await export(told, "agent", "chat scripted", trace, told.agents, "", began)
    told.review = held.body["refusal"]["review"]

    async def seen() -> bool:
        return any(span.name == "review requested" for span in await asyncio.to_thread(told.spans, "held"))

    await made.until(seen, "the hold is in Jaeger while it lasts")
    _, shown = await made.review("GET", f"/v1/reviews/{told.review}")
    yes = {"digest": shown["digest"], "comment": COMMENT}
    assert (await made.review("POST", f"/v1/reviews/{told.review}/approve", yes))[0] == 200
    async with made.session.post(
        f"{made.url('agent')}/v1/tool-calls/{held.call_id}/resume", headers={"x-sidegate-conversation": handle}
    ) as response:
        assert response.status == 200, await response.text()
        traceparent = response.headers["traceparent"]
        told.calls["resumed"] = (response.headers["x-sidegate-call-id"], traceparent.split("-")[1])
    _, trace, parent, _ = dict(made.upstream.received[-1].headers)["traceparent"].split("-")
    await export(told, "prices", "GET /prices/{sku}", trace, secrets.token_hex(8), parent)


async def export(
    told: Story, service: str, name: str, trace: str, span: str, parent: str, began: int | None = None
) -> None:
    """A span of another process, as its own SDK would send it."""
    now = time.time_ns()
    times = {"startTimeUnixNano": str(began or now), "endTimeUnixNano": str(now)}
    one = {"traceId": trace, "spanId": span, "parentSpanId": parent, "name": name, "kind": 2, **times}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [one]}]}]}
    async with told.rig.session.post(told.jaeger.otlp("http/protobuf") + "/v1/traces", json=body) as response:
        assert response.status == 200


async def ask(told: Story, way: str) -> str:
    """A call that is held; its review."""
    handle = await told.rig.register(f"c-{way}")
    for name in ("get_stock", "get_terms"):
        assert (await told.rig.send(handle, name)).status == 200
    return str((await play(told, way, handle, "get_price")).body["refusal"]["review"])


async def rejected(told: Story) -> None:
    """A person says no."""
    path = f"/v1/reviews/{await ask(told, 'rejected')}/reject"
    assert (await told.rig.review("POST", path, {"comment": COMMENT}))[0] == 200


async def expired(told: Story) -> None:
    """Nobody was there for what had been asked under this name."""
    made = told.rig
    await made.until_true(lambda: bool(made.records(kind="review_resolved", status="expired")), "the review expires")

    async def told_so() -> bool:
        return any(span.name == "review resolved" for span in await asyncio.to_thread(told.spans, "expired"))

    await made.until(told_so, "the expiry is in Jaeger though nobody waits")


async def ended_otherwise(told: Story) -> None:
    """Denied, failed, too slow, withheld, unknown, unreadable; abandoned and failed closed while OPA hangs."""
    handle = await told.rig.register("c-others")
    await play(told, "denied", handle, "create_order", {"sku": CANARY, "quantity": 5000})
    await play(told, "failed", handle, "get_stock", {"sku": "fails"})
    await play(told, "withheld", handle, "get_stock", {"sku": "echoes"})
    await play(told, "slow", handle, "get_stock", {"sku": "hangs"})
    await play(told, "unknown", handle, "send_fax", {"sku": CANARY})
    await play(told, "invalid", handle, "get_stock", {"sku": 7, CANARY: CANARY})
    async with told.rig.session.post(
        told.rig.url("agent") + "/v1/tool-calls",
        data=f'{{"tool": "{CANARY}',
        headers={"content-type": "application/json"},
    ) as response:
        told.calls["unparsable"] = (
            response.headers["x-sidegate-call-id"],
            response.headers["traceparent"].split("-")[1],
        )
    os.kill(told.rig.opa_pid(), signal.SIGSTOP)
    try:
        await _abandoned(told, handle)
        await play(told, "closed", handle, "get_stock")
    finally:
        os.kill(told.rig.opa_pid(), signal.SIGCONT)


async def _abandoned(told: Story, handle: str) -> None:
    """The caller hangs up while OPA thinks."""

    def ended() -> list[dict[str, Any]]:
        return [r for r in told.rig.records(kind="terminal") if r["tool_call"] == "toolu-abandoned"]

    async def under_way() -> bool:
        return bool((await told.rig.review("GET", "/v1/status"))[1]["in_flight"])

    await told.rig.hang_up_on(handle, native("get_stock", name_it="toolu-abandoned"), when=under_way)
    await told.rig.until_true(lambda: bool(ended()), "the abandoned call ends")
    told.calls["abandoned"] = (ended()[0]["call"], ended()[0]["trace"])
