"""What happens to one tool call, top to bottom (design section 4).

A tool call comes in, is checked, is decided, is executed with a permit, and is recorded. Every `await` crosses a port;
every plain call is a pure function of `core`. `_carry` never lets a call end without its one terminal record.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from proxy.core import limits
from proxy.core.check import check
from proxy.core.gate import Gate
from proxy.core.hold import approval_of, new_review
from proxy.core.permit import Permit, grant
from proxy.core.policy_input import decision_input, masked_arguments, visible_input
from proxy.core.records import named_records
from proxy.core.results import check_result
from proxy.core.review import Approval, ReviewStatus
from proxy.core.tool import CheckedCall, Snapshot, Tool
from proxy.core.trail import Stage, Trail, durable_before_sending, intent_record, terminal_record
from proxy.errors import Refusal
from proxy.identify import Identify
from proxy.model import Answer, Caller, Decision, Effect, Facts, Presented, Result, ToolCall, UnreadableCall
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
from proxy.run import Run


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
    gate: Gate
    patience: float  # seconds
    review_ttl: float  # seconds
    held: dict[str, ToolCall] = field(default_factory=dict)  # review id -> a call whose secrets are nowhere else
    running: dict[str, Run] = field(default_factory=dict)  # by call id

    async def handle_all(
        self,
        calls: Sequence[ToolCall | UnreadableCall],
        presented: Presented,
        *,
        patient: bool = True,
        resumes: str | None = None,
    ) -> Sequence[Answer]:
        """The calls of one body: decided in order, executed concurrently, each failing alone; a refusal is an answer, too. Who
        is not `patient` is told of a hold at once. Only cancellation is raised: the caller hung up."""
        runs: list[Run] = []
        try:
            for call in calls:
                runs.append(self._begin(call, presented, patient=patient, resumes=resumes))
                await runs[-1].decided.wait()
            return [await self._answer(run) for run in runs]
        except asyncio.CancelledError:
            for run in runs:  # soon, not now: a task that is cancelled before its first step leaves no record
                asyncio.get_running_loop().call_soon(run.leave)
            raise

    async def report(self, call_id: str, handle: str, body: bytes) -> Answer:
        """The agent's own result of a call handed over to it, taken from step 11 on."""
        run = self.running.get(call_id)
        if run is None:
            raise limits.unknown_call()
        self.own_tools.report(call_id, handle, body)
        return await asyncio.shield(run.task)

    async def finish(self, seconds: float) -> int:
        """Let what is under way end; after so long end the rest. Returns how many that were."""
        if self.running:
            await asyncio.wait([run.task for run in self.running.values()], timeout=seconds)
        left = list(self.running.values())
        for run in left:
            run.end()
        if left:
            await asyncio.wait([run.task for run in left], timeout=limits.LAST_RECORDS)
        return len(left)

    def _begin(
        self, call: ToolCall | UnreadableCall, presented: Presented, *, patient: bool, resumes: str | None
    ) -> Run:
        span = self.telemetry.begin(call, presented)
        trail = Trail(
            call_id=secrets.token_hex(16),
            call=call,
            presented=presented,
            trace=span.context,
            began=self.clock.monotonic(),
            resumes=resumes,
        )
        decided = asyncio.Event()
        task = asyncio.create_task(self._carry(trail, span, decided, patient=patient))
        self.running[trail.call_id] = run = Run(trail=trail, task=task, decided=decided)
        task.add_done_callback(lambda _: self.running.pop(trail.call_id))
        return run

    async def _answer(self, run: Run) -> Answer:
        """The end of a call; of one that the agent runs itself, the handle under which it reports."""
        if not run.handed_over:
            return await asyncio.shield(run.task)
        handed = asyncio.create_task(self.own_tools.handed_over(run.trail.call_id))
        try:
            await asyncio.wait({run.task, handed}, return_when=asyncio.FIRST_COMPLETED)
            return run.task.result() if run.task.done() else run.trail.answer(handle=handed.result())
        finally:
            handed.cancel()

    async def _carry(self, trail: Trail, span: Span, decided: asyncio.Event, *, patient: bool) -> Answer:
        """One call from the wire to its record, whichever way it ends."""
        result, refusal = None, None
        try:
            try:
                permit = await self._permitted(trail, patient=patient)
                trail.stage = Stage.EXECUTING
            finally:
                decided.set()
            result = await self._executed(trail, permit)
        except Refusal as no:
            refusal = limits.bare(no)
        except asyncio.CancelledError:
            refusal = limits.interrupted(trail)
        except Exception as fault:  # noqa: BLE001 - whatever breaks in here, the call is refused and recorded
            refusal = limits.internal(fault, sent=trail.committed)
        trail.stage = Stage.CONCLUDING
        return await self._conclude(trail, span, result, refusal)

    async def _permitted(self, trail: Trail, *, patient: bool) -> Permit:
        """Steps 1 to 8: all that can say no before the world has heard of the call."""
        trail.place = self.gate.enter()
        call = _readable(trail.call)
        trail.caller = await self.identify(trail.presented)
        trail.place.give_to(trail.caller.principal.id)
        limits.refuse_bulk(trail.caller, call)
        approval: Approval | None = None
        while (decision := await self._judge(trail, call, approval)).effect is Effect.REVIEW:
            given = await self._hold(trail, call, patient=patient)
            if approval is not None and given.review_id == approval.review_id:
                break  # policy says the same again to the very same yes
            approval = given
        checked = limits.known(trail.checked)
        # Again: it may have been thrown while facts were asked for, or policy. From here on nothing is waited for but the intent.
        limits.refuse_stopped(self.conversations.stopped(trail.caller, checked))
        return grant(trail.call_id, checked, trail.caller, decision, trail.approval)

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
        try:
            checked = check(call, snapshot, today=now.date(), key=self.key)
        except Refusal as refusal:
            raise await self._for_the_eyes_of(caller, snapshot.catalog.tools.get(call.tool), refusal) from None
        trail.snapshot, trail.checked, trail.approval, trail.decision = snapshot, checked, approval, None
        trail.arguments = masked_arguments(checked, self.key)
        limits.refuse_stopped(self.conversations.stopped(caller, checked))
        limits.refuse_repeated(self.calls.repeated(caller.conversation, checked.digest))
        trail.facts = await self.calls.reserve(trail.call_id, caller, checked)
        trail.facts = await self._with_resources(trail, checked, trail.facts)
        trail.document = decision_input(
            call, trail.call_id, checked, caller, trail.facts, arguments=trail.arguments, approval=approval, now=now
        )
        asked = self.clock.monotonic()
        try:
            trail.decision = await self.policy.decide(trail.document, trail.trace)
        finally:
            trail.took("decide", self.clock.monotonic() - asked)
        return trail.decision

    async def _for_the_eyes_of(self, caller: Caller, tool: Tool | None, refusal: Refusal) -> Refusal:
        """What is wrong with a call tells of the tool's schema: only to those who may see the tool."""
        if tool is None or refusal.details is None:
            return refusal
        seen = await self.policy.visible(visible_input(caller, [tool], self.clock.now()), None)
        return refusal if tool.name in seen else limits.untaught(refusal)

    async def _with_resources(self, trail: Trail, checked: CheckedCall, facts: Facts) -> Facts:
        """Whose the named records are, by the sources that the catalog declares. Nobody can make us ask them: that is work of the
        upstream's, done with our credential; without an owner policy says no."""
        found = []
        for record in named_records(checked):
            source = limits.known(trail.snapshot).catalog.resources.get(record.type)
            found.append(
                record
                if source is None or not limits.known(trail.caller).registered
                else await self.facts.resource(source, record.argument, record.id, trail.trace)
            )
        return replace(facts, resources=tuple(found)) if found else facts

    async def _hold(self, trail: Trail, call: ToolCall, *, patient: bool) -> Approval:
        """Step 7: leave a record for a person and wait as long as the caller can. Raises Refusal while there is no yes."""
        wanted = new_review(trail, review_id=f"r-{secrets.token_hex(8)}", now=self.clock.now(), ttl=self.review_ttl)
        review = await self.reviews.request(wanted)
        limits.remember(self.held, review, call)
        self.telemetry.held(trail, review)
        asked = self.clock.monotonic()
        try:
            if review.status is ReviewStatus.PENDING and patient:
                patience = self.patience if trail.presented.patience is None else trail.presented.patience
                with limits.known(trail.place).outside():
                    review = await self.reviews.outcome(review.id, patience)
        finally:
            trail.took("hold", self.clock.monotonic() - asked)
        if review.status is not ReviewStatus.PENDING:
            self.telemetry.resolved(trail, review)
        if not review.status.open:
            self.held.pop(review.id, None)
        return approval_of(review)

    async def _executed(self, trail: Trail, permit: Permit) -> Result:
        """Steps 9 to 11: the intent is written, then the tool runs, then its answer is looked at."""
        tool = permit.checked.tool
        await self.calls.commit(
            intent_record(trail, credential=tool.upstream.credential), durable=durable_before_sending(tool.effect)
        )
        trail.committed = True
        if trail.approval is not None:
            self.held.pop(trail.approval.review_id, None)
        sent = self.clock.monotonic()
        try:
            response = await self.executor.execute(permit, trail.trace)
        finally:
            trail.took("upstream", self.clock.monotonic() - sent)
        return check_result(response, tool, permit.checked.version)

    async def _conclude(self, trail: Trail, span: Span, result: Result | None, refusal: Refusal | None) -> Answer:
        """Step 12: the one terminal record, written before the agent sees anything."""
        waits = trail.committed and not durable_before_sending(limits.known(trail.checked).tool.effect)
        try:
            seconds = self.clock.monotonic() - trail.began
            record = terminal_record(trail, result=result, refusal=refusal, seconds=seconds)
            await self.calls.settle(record, durable=waits)
        except Exception as fault:  # noqa: BLE001 - whatever kept it from being recorded, no result leaves without its record
            result, refusal = None, limits.withheld(fault, refusal, committed=trail.committed)
        finally:
            if trail.place is not None:
                trail.place.leave()
        answer = trail.answer(result=result, refusal=refusal)
        self.telemetry.conclude(span, trail, answer)
        return answer


def _readable(call: ToolCall | UnreadableCall) -> ToolCall:
    if isinstance(call, UnreadableCall):
        raise call.refusal
    return call
