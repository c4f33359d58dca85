"""What happens to one tool call, top to bottom (design section 4).

A tool call comes in, is checked, is decided, is executed with a permit, and is recorded. Every `await` crosses a port;
every plain call is a pure function of `core`. `handle` never lets a call end without its one terminal record.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.core import limits
from proxy.core.check import check
from proxy.core.hold import approval_of, new_review
from proxy.core.permit import Permit, grant
from proxy.core.policy_input import decision_input, masked_arguments
from proxy.core.records import named_records
from proxy.core.results import check_result
from proxy.core.review import Approval, ReviewStatus
from proxy.core.tool import CheckedCall, Snapshot
from proxy.core.trail import Trail, durable_before_sending, intent_record, outcome_of, terminal_record
from proxy.errors import Code, Ran, Refusal
from proxy.identify import Identify
from proxy.model import (
    Answer,
    Decision,
    Effect,
    Facts,
    Outcome,
    Presented,
    Result,
    ToolCall,
    UnreadableCall,
)
from proxy.ports import (
    Calls,
    Clock,
    Conversations,
    Executor,
    FactSource,
    Policy,
    Reviews,
    Snapshots,
    Span,
    Telemetry,
    Tools,
)


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """The line that every tool call takes, whatever its dialect. `key` is the secret of digests and masks."""

    identify: Identify
    snapshots: Snapshots
    conversations: Conversations
    calls: Calls
    reviews: Reviews
    policy: Policy
    facts: FactSource
    executor: Executor
    own_tools: Tools
    telemetry: Telemetry
    clock: Clock
    key: bytes
    gate: limits.Gate
    patience: float  # seconds
    review_ttl: float  # seconds
    held: dict[str, ToolCall] = field(default_factory=dict)  # review id -> the call as it came, for `resume`
    running: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)  # call id -> what outlives its handler

    async def handle_all(
        self, calls: Sequence[ToolCall | UnreadableCall], presented: Presented, *, patient: bool
    ) -> Sequence[Answer]:
        """The calls of one body: decided in order, executed concurrently, each failing alone. Who is not `patient` is told
        of a hold at once."""
        tasks: list[asyncio.Task[Answer]] = []
        try:
            for item in calls:
                decided = asyncio.Event()
                tasks.append(asyncio.create_task(self.handle(item, presented, decided=decided.set, patient=patient)))
                await decided.wait()
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def handle(
        self,
        call: ToolCall | UnreadableCall,
        presented: Presented,
        *,
        decided: Callable[[], None] = lambda: None,
        patient: bool = True,
        resumes: str | None = None,
    ) -> Answer:
        """One call from the wire to its answer. A refusal is an answer, too; only cancellation is raised."""
        span = self.telemetry.begin(call, presented)
        trail = Trail(
            call_id=secrets.token_hex(16),
            call=call,
            presented=presented,
            trace=span.context,
            began=self.clock.monotonic(),
            resumes=resumes,
        )
        try:
            permit = await self._permitted(trail, patient=patient)
        except Refusal as refusal:
            return await asyncio.shield(self._outlive(trail, self._conclude(trail, span, refusal=refusal)))
        except asyncio.CancelledError:
            gone = Refusal(Code.ABANDONED, "the caller left before the call was allowed")
            self._outlive(trail, self._conclude(trail, span, refusal=gone))
            raise
        except Exception as fault:  # noqa: BLE001 - whatever breaks in here, the call is refused and recorded
            return await asyncio.shield(self._outlive(trail, self._conclude(trail, span, refusal=_internal(fault))))
        finally:
            decided()
        task = self._outlive(trail, self._carry_out(trail, permit, span))
        try:
            if permit.checked.tool.upstream.kind == "caller":
                return await self._hand_over(trail, task)
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            trail.caller_gone = True
            raise

    async def _permitted(self, trail: Trail, *, patient: bool) -> Permit:
        """Steps 1 to 8: all that can say no before the world has heard of the call."""
        self.gate.enter()
        trail.admitted = True
        call = _readable(trail.call)
        trail.caller = await self.identify(trail.presented)
        decision = await self._judge(trail, call, None)
        if decision.effect is Effect.REVIEW:
            approval = await self._hold(trail, call, patient=patient)
            decision = await self._judge(trail, call, approval)
        return grant(trail.call_id, limits.known(trail.checked), trail.caller, decision, limits.known(trail.snapshot))

    async def _judge(self, trail: Trail, call: ToolCall, approval: Approval | None) -> Decision:
        """Steps 3 to 6, taken anew after a hold: a hold is never a second door. OPA's answer names the snapshot it is of."""
        snapshot = self.snapshots.current()
        decision = await self._decide(trail, call, snapshot, approval)
        if decision.revision != snapshot.policy_revision:
            named = self.snapshots.by_policy(decision.revision)
            if named is None:
                raise limits.unknown_revision(decision.revision)
            decision = await self._decide(trail, call, named, approval)
            if decision.revision != named.policy_revision:
                raise limits.unknown_revision(decision.revision)
        return decision

    async def _decide(self, trail: Trail, call: ToolCall, snapshot: Snapshot, approval: Approval | None) -> Decision:
        caller = limits.known(trail.caller)
        now = self.clock.now()
        checked = check(call, snapshot, today=now.date(), key=self.key)
        trail.snapshot, trail.checked, trail.approval = snapshot, checked, approval
        trail.arguments = masked_arguments(checked, self.key)
        limits.refuse_stopped(self.conversations.stopped(caller, checked))
        limits.refuse_repeated(self.calls.repeated(caller.conversation, checked.digest))
        trail.facts = await self.calls.reserve(trail.call_id, caller, checked)
        trail.facts = await self._with_resources(trail, checked, trail.facts)
        trail.document = decision_input(
            call, trail.call_id, checked, caller, trail.facts, arguments=trail.arguments, approval=approval, now=now
        )
        asked = self.clock.monotonic()
        trail.decision = await self.policy.decide(trail.document, trail.trace)
        trail.took("decide", self.clock.monotonic() - asked)
        return trail.decision

    async def _with_resources(self, trail: Trail, checked: CheckedCall, facts: Facts) -> Facts:
        """Whose the named records are, by the sources that the catalog declares."""
        found = []
        for record in named_records(checked):
            source = limits.known(trail.snapshot).catalog.resources.get(record.type)
            found.append(
                record if source is None else await self.facts.resource(source, record.argument, record.id, trail.trace)
            )
        return replace(facts, resources=tuple(found)) if found else facts

    async def _hold(self, trail: Trail, call: ToolCall, *, patient: bool) -> Approval:
        """Step 7: leave a record for a person and wait as long as the caller can. Raises Refusal while there is no yes."""
        wanted = new_review(trail, review_id=f"r-{secrets.token_hex(8)}", now=self.clock.now(), ttl=self.review_ttl)
        review = await self.reviews.request(wanted)
        limits.remember(self.held, review.id, call)
        self.telemetry.held(trail, review)
        asked = self.clock.monotonic()
        if review.status is ReviewStatus.PENDING and patient:
            patience = self.patience if trail.presented.patience is None else trail.presented.patience
            with self.gate.outside():
                review = await self.reviews.outcome(review.id, patience)
        trail.took("hold", self.clock.monotonic() - asked)
        if review.status is not ReviewStatus.PENDING:
            self.telemetry.resolved(trail, review)
        return approval_of(review)

    async def _carry_out(self, trail: Trail, permit: Permit, span: Span) -> Answer:
        """Steps 9 to 12, in a task of its own that outlives the handler."""
        tool = permit.checked.tool
        try:
            await self.calls.commit(
                intent_record(trail, credential=tool.upstream.credential), durable=durable_before_sending(tool.effect)
            )
            trail.committed = True
            sent = self.clock.monotonic()
            response = await self.executor.execute(permit, trail.trace)
            trail.took("upstream", self.clock.monotonic() - sent)
            result = check_result(response, tool, permit.checked.version)
        except Refusal as refusal:
            return await self._conclude(trail, span, refusal=refusal)
        except Exception as fault:  # noqa: BLE001 - what was sent must be recorded, whatever breaks in here
            return await self._conclude(trail, span, refusal=_internal(fault, sent=trail.committed))
        return await self._conclude(trail, span, result=result)

    async def _conclude(
        self, trail: Trail, span: Span, *, result: Result | None = None, refusal: Refusal | None = None
    ) -> Answer:
        """Step 12: the one terminal record, written before the agent sees anything."""
        outcome = Outcome.DONE if refusal is None else outcome_of(refusal, committed=trail.committed)
        record = terminal_record(
            trail, outcome=outcome, result=result, refusal=refusal, seconds=self.clock.monotonic() - trail.began
        )
        waits = trail.committed and not durable_before_sending(limits.known(trail.checked).tool.effect)
        try:
            await self.calls.settle(record, durable=waits)
        except Refusal as unrecorded:
            result, refusal = None, limits.withheld(unrecorded, refusal, committed=trail.committed)
        if trail.admitted:
            self.gate.leave()
        answer = trail.answer(result=result, refusal=refusal)
        self.telemetry.conclude(span, trail, answer)
        return answer

    async def _hand_over(self, trail: Trail, task: asyncio.Task[Answer]) -> Answer:
        """A tool that the agent runs itself: decided and committed here, its result reported back to `report`."""
        handed = asyncio.create_task(self.own_tools.handed_over(trail.call_id))
        try:
            await asyncio.wait({task, handed}, return_when=asyncio.FIRST_COMPLETED)
            return trail.answer(handle=handed.result()) if handed.done() else task.result()
        finally:
            handed.cancel()

    async def report(self, call_id: str, handle: str, body: bytes) -> Answer:
        """The agent's own result of a call handed over to it, taken from step 11 on."""
        task = self.running.get(call_id)
        if task is None:
            raise limits.unknown_call()
        self.own_tools.report(call_id, handle, body)
        return await asyncio.shield(task)

    def _outlive(self, trail: Trail, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Run to its end even if nobody waits for it any more."""
        task = asyncio.create_task(work)
        self.running[trail.call_id] = task
        task.add_done_callback(lambda _: self.running.pop(trail.call_id, None))
        return task


def _readable(call: ToolCall | UnreadableCall) -> ToolCall:
    if isinstance(call, UnreadableCall):
        raise call.refusal
    return call


def _internal(fault: Exception, *, sent: bool = False) -> Refusal:
    return Refusal(
        Code.INTERNAL_ERROR,
        "Sidegate failed while it handled this call",
        ran=Ran.UNKNOWN if sent else Ran.NO,
        details={"fault": type(fault).__name__},
    )
