"""The parts of one call, made in this process as the sidecar makes them: for what is measured without a socket."""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
from proxy.adapters.store_embedded import EmbeddedStore, open_store
from proxy.core.catalog import build_catalog
from proxy.core.check import check
from proxy.core.decision import read_decision
from proxy.core.hold_rules import HoldLimits
from proxy.core.identity import hash_handle
from proxy.core.policy_input import decision_input
from proxy.core.registry import Registered
from proxy.core.results import check_result
from proxy.core.tool import CheckedCall, Snapshot
from proxy.core.trail import Trail, intent_record, terminal_record
from proxy.model import (
    Agent,
    Caller,
    Facts,
    Presented,
    Principal,
    Registration,
    Response,
    Result,
    SpanContext,
    ToolCall,
)
from proxy.wire import dialects
from tests.benchmarks.stubs import ANSWER
from tests.benchmarks.world import TOOLS, call
from tests.e2e.world import CATALOG

KEY = b"k" * 32
REVISION = "r" * 64
DECISION = json.dumps(
    {
        "result": {
            "schema": 1,
            "effect": "allow",
            "guards": [],
            "deny": {},
            "review": {},
            "allow": {
                "grants": [{"code": "granted", "message": "granted to role buyer", "details": {"role": "buyer"}}]
            },
            "obligations": {},
            "warn": {},
            "revision": REVISION,
        }
    }
).encode()
CALLER = Caller(
    agent=Agent(namespace="test", service_account="agent", pod="rig"),
    principal=Principal(issuer="file", subject="ada", name="Ada Example", tenant="acme", roles=("buyer",)),
    conversation="c1",
    registration=Registration.CLAIMED,
)
TRACE = SpanContext(trace_id="a" * 32, span_id="b" * 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One read call on its way."""

    call: ToolCall
    snapshot: Snapshot
    checked: CheckedCall
    result: Result

    def document(self, facts: Facts) -> bytes:
        """OPA's input."""
        return decision_input(
            self.call,
            "c" * 32,
            self.checked,
            CALLER,
            facts,
            arguments=self.checked.arguments.raw,
            approval=None,
            now=datetime.now(UTC),
        )

    def trail(self, call_id: str, facts: Facts, caller: Caller = CALLER) -> Trail:
        """All that is known before the commit."""
        return Trail(
            call_id=call_id,
            call=self.call,
            presented=Presented(),
            trace=TRACE,
            began=0.0,
            caller=caller,
            snapshot=self.snapshot,
            checked=self.checked,
            arguments=self.checked.arguments.raw,
            facts=facts,
            decision=read_decision(DECISION),
            document=self.document(facts),
        )


def parts(upstream_port: int = 9) -> Parts:
    """The benchmarks' own read call against their catalog."""
    document = json.loads(json.dumps(CATALOG | {"tools": TOOLS}).replace("{upstream}", str(upstream_port)))
    today = datetime.now(UTC).date()
    snapshot = Snapshot(catalog=build_catalog([("tools", document)], today=today), policy_revision=REVISION)
    item = dialects.parse(call("get_stock")).items[0]
    if not isinstance(item, ToolCall):
        raise TypeError("the benchmarks' own call is readable")
    checked = check(item, snapshot, today=today, key=KEY)
    response = Response(status=200, media_type="application/json", body=ANSWER)
    result = check_result(response, checked.tool, checked.version)
    return Parts(call=item, snapshot=snapshot, checked=checked, result=result)


@contextlib.asynccontextmanager
async def store(folder: Path, *callers: Caller) -> AsyncIterator[EmbeddedStore]:
    """The embedded store over a journal below `folder`, with these conversations registered."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-", dir=folder) as work:
        journal = Journal.open(Path(work) / "journal", chain="bench", clock=clock)
        made = await open_store(
            Path(work) / "s.sqlite", journal, Path(work) / "journal", clock=clock, limits=HoldLimits()
        )
        for caller in callers:
            await made.conversations.register(_registered(caller))
        yield made
        await made.close()
        await journal.close()


def _registered(caller: Caller) -> Registered:
    now = datetime.now(UTC)
    return Registered(
        conversation=caller.conversation,
        handle_hash=hash_handle(f"handle-of-{caller.conversation}"),
        principal=caller.principal,
        agent=caller.agent,
        registration=Registration.CLAIMED,
        registered_at=now,
        expires_at=now + timedelta(hours=1),
    )


async def facts_after(made: EmbeddedStore, calls: int, one: Parts, conversation: str) -> Facts:
    """What the next call sees in this conversation after so many have run in it."""
    caller = replace(CALLER, conversation=conversation)
    for number in range(calls):
        name = f"{conversation}-{number}"
        trail = one.trail(name, await made.calls.reserve(name, caller, one.checked), caller)
        await made.calls.commit(intent_record(trail, credential="api"), durable=False)
        trail.committed = True
        await made.calls.settle(terminal_record(trail, result=one.result, seconds=0.001), durable=False)
    return await made.calls.reserve(f"{conversation}-last", caller, one.checked)
