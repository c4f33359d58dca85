"""Every line that a sidecar logs is one JSON object, whatever happens to it; what it tells of itself when it starts."""

import contextlib
import json
import os
import signal
from typing import Any

import aiohttp
import pytest

from tests.cli.command import sidegate
from tests.e2e.rig import CREDENTIAL, Rig

pytestmark = pytest.mark.slow
CANARY = "canary-argument"


def lines(text: str) -> list[dict[str, Any]]:
    """All lines; a line that is no JSON object with what every line has fails the test."""
    read = [json.loads(line) for line in text.splitlines()]
    for line in read:
        assert {"time", "level", "logger", "message"} <= line.keys(), line
        assert line["time"].endswith("+00:00")
    return read


async def bad_requests(rig: Rig, handle: str) -> None:
    """What HTTP, JSON, schema and policy refuse, and a call that is held."""
    for raw in (b"GARBAGE\r\n\r\n", b"POST /v1/tool-calls HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"\x16\x03\x01\x02"):
        await rig.raw(raw)
    await rig.post("/v1/tool-calls", b"{", handle)
    await rig.post("/v1/tool-calls", b"[" * 70, handle)
    for name, arguments in (
        ("nope", None),
        ("get_stock", {"sku": 7}),
        ("drop_all", {"sku": CANARY}),
        ("convert", None),
    ):
        await rig.call(handle, name, arguments)
    await rig.call(None, "get_stock", {"sku": CANARY})
    await rig.put("c9", "no-such-token")
    await rig.review("GET", "/v1/reviews/none")


async def test_every_line_of_a_busy_and_faulted_sidecar_is_json(prepared: Rig) -> None:
    """Nonsense on the wire, refusals, a broken policy, an OPA and an upstream that die, calls cut off by the end."""
    prepared.arguments = ["--log-level", "debug"]
    await prepared.start()
    handle = await prepared.register("c1")
    await bad_requests(prepared, handle)
    prepared.put_file("policy.yaml", "schema: 1\npolicies: [")
    await prepared.until_true(lambda: "not taken over" in prepared.log(), "the broken policy is told")
    os.kill(prepared.opa_pid(), signal.SIGKILL)
    await prepared.call(handle, "get_stock")
    await prepared.until_true(lambda: "it is restarted" in prepared.log(), "OPA's end is told")
    await prepared.until(prepared.ready, "it is ready again")
    await prepared.upstream.stop()
    await prepared.call(handle, "get_terms")
    await prepared.hang_up(handle, "get_price", {"sku": CANARY}, when=prepared.ready)
    with contextlib.suppress(aiohttp.ClientError):
        await prepared.call(handle, "get_price", {"sku": CANARY})
    await prepared.stop()
    told = lines(prepared.log())
    calls = [line for line in told if line["logger"] == "sidegate.calls"]
    assert calls
    for line in calls:
        assert len(line["trace_id"]) == 32
        assert len(line["span_id"]) == 16
        assert line["trace_flags"] in ("00", "01")
    for secret in (CREDENTIAL, CANARY, handle, *prepared.users.values(), *prepared.reviewers.values()):
        assert secret not in prepared.log()


async def test_the_start_line_says_what_is_in_force(prepared: Rig) -> None:
    """Policies with their modes, who approves, revisions, and what is not enforced: the night shift's first question."""
    waived = {"mode": "warn", "because": "on trial", "until": "2999-12-31"}
    prepared.policy["policies"]["ownership"] = waived
    prepared.policy["grants"]["systems"]["desktop"]["read"]["buyer"] = {"review": {"approvers": ["desk-owners"]}}
    await prepared.start()
    (line,) = [line for line in lines(prepared.log()) if line["message"] == "ready"]
    assert line["policies"] == {
        **dict.fromkeys(("arguments", "combination", "grants", "review"), "enforce"),
        "ownership": "warn",
    }
    assert line["not_enforcing"] == ["ownership"]
    assert line["approvers"] == ["desk-owners", "sourcing-leads"]
    assert (line["registration"], line["opa"]) == ("claimed", "supervised")
    assert line["ports"] == {name: f"127.0.0.1:{port}" for name, port in prepared.ports.items()}
    assert line["enforcement"] == {"credential": ["api"], "cooperative": ["in-agent"]}
    assert all(len(line[name]) == 64 for name in ("policy", "catalog"))
    assert line["revision"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"patience": "soon"}, "patience"),
        ({"catalog": "nowhere"}, "nowhere"),
        ({"opa": {"binary": "/nowhere/opa"}}, "/nowhere/opa"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_why_it_did_not_start_is_log_lines_too(prepared: Rig, change: dict[str, Any], says: str) -> None:
    prepared.settings |= change
    prepared.write()
    done = sidegate("serve", "--settings", prepared.folder / "sidegate.yaml")
    assert done.code == 64
    told = [line for line in lines(done.err) if line["message"].startswith("not started: ")]
    assert told
    assert all(line["level"] == "error" for line in told)
    assert says in " ".join(line["message"] for line in told)
