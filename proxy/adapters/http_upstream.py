"""Port Executor for tools whose upstream is a plain HTTP API: one delivery, faults told apart, the credential kept."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from proxy.adapters.credentials import Credential, Credentials, CredentialUnavailableError
from proxy.adapters.http_exchange import FaultError, HttpExchange, Kind, Outbound, request_headers
from proxy.core import limits
from proxy.core.http_request import HttpRequest, build
from proxy.core.permit import Permit
from proxy.core.retry import delays, may_retry
from proxy.core.tool import CheckedCall, Tool
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Caller, Response, SpanContext
from proxy.ports import Clock

# What is read beyond a tool's limit, so that a refusal can say how large the answer is.
_MARGIN = 1 << 20
_MOST_BYTES = 8 << 20
_TRY_AGAIN = frozenset({502, 503, 504})

_CODES = {
    Kind.OPEN: Code.UPSTREAM_OPEN,
    Kind.OVERLOADED: Code.OVERLOADED,
    Kind.UNREACHABLE: Code.TOOL_UNREACHABLE,
    Kind.TIMEOUT: Code.TOOL_TIMEOUT,
    Kind.BROKEN: Code.OUTCOME_UNKNOWN,
    Kind.REDIRECT: Code.TOOL_FAILED,
    Kind.UNREADABLE: Code.INVALID_RESULT,
}
_NOT_SENT = frozenset({Kind.OPEN, Kind.OVERLOADED, Kind.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One execution: what its attempts have in common. `began` is on the event loop's clock."""

    tool: Tool
    began: float
    outbound: Outbound


class HttpUpstreams:
    """Executes permitted calls of http tools. `random` gives the jitter of retries (0 to below 1); `stopped` is the switch that
    stands in a call's way (port Conversations)."""

    def __init__(
        self,
        exchange: HttpExchange,
        credentials: Credentials,
        clock: Clock,
        random: Callable[[], float],
        stopped: Callable[[Caller, CheckedCall], str | None],
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._clock = clock
        self._random = random
        self._stopped = stopped

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """Send once, again only as `core.retry` allows. Raises Refusal invalid_arguments, stopped, upstream_open, overloaded,
        tool_unreachable, tool_timeout, outcome_unknown, tool_failed (redirect), invalid_result, result_withheld."""
        tool = permit.checked.tool
        if tool.upstream.kind != "http":
            raise Refusal(
                Code.TOOL_UNREACHABLE, f"tool {tool.name} cannot be called: its upstream is not HTTP", retry=Retry.NEVER
            )
        request = build(tool, permit.checked.arguments)
        credential = self._credential(tool)
        headers = request_headers(tool.result.media_type, trace, credential)
        if tool.idempotent and request.method != "GET":
            headers["Idempotency-Key"] = permit.call_id
        call = _begin(tool, request, headers, lambda: self._stopped(permit.caller, permit.checked))
        outcome = await self._attempts(call)
        if isinstance(outcome, FaultError):
            if outcome.kind is Kind.STOPPED:
                limits.refuse_stopped(outcome.why)
            raise _refusal(outcome, call, asyncio.get_running_loop().time())
        if credential is not None and credential.echoed_in(outcome.body, outcome.media_type.encode()):
            raise Refusal(
                Code.RESULT_WITHHELD, f"the answer of tool {tool.name} is withheld: it contained a credential"
            )
        return outcome

    def _credential(self, tool: Tool) -> Credential | None:
        try:
            return self._credentials.get(tool.upstream.credential)
        except CredentialUnavailableError as e:
            raise Refusal(
                Code.TOOL_UNREACHABLE,
                f"tool {tool.name} cannot be called: its credential is not available",
                fix=_whom_to_ask(tool),
                details={"problem": str(e)},
            ) from None

    async def _attempts(self, call: _Call) -> Response | FaultError:
        outcome = await self._attempt(call)
        for delay in delays(call.tool.retries, self._random):
            if not _worth_another(outcome, call, delay):
                break
            await self._clock.sleep(delay)
            later = await self._attempt(call)
            if isinstance(later, FaultError) and _says_less(later, call):
                break
            outcome = later
        return outcome

    async def _attempt(self, call: _Call) -> Response | FaultError:
        try:
            return await self._exchange.send(call.outbound)
        except FaultError as fault:
            return fault


def _begin(tool: Tool, request: HttpRequest, headers: dict[str, str], stopped: Callable[[], str | None]) -> _Call:
    began = asyncio.get_running_loop().time()
    outbound = Outbound(
        upstream=tool.upstream,
        request=request,
        headers=headers,
        cap=min(tool.result.max_bytes + _MARGIN, _MOST_BYTES),
        deadline=began + tool.timeout,
        stopped=stopped,
    )
    return _Call(tool=tool, began=began, outbound=outbound)


def _says_less(later: FaultError, call: _Call) -> bool:
    """Whether what went wrong before says more: nothing is sent any more, which does not unsay what was."""
    return later.kind is Kind.OPEN or (later.kind is Kind.STOPPED and call.outbound.delivery.ever_sent)


def _worth_another(outcome: Response | FaultError, call: _Call, delay: float) -> bool:
    failed = (
        outcome.status in _TRY_AGAIN
        if isinstance(outcome, Response)
        else outcome.kind in {Kind.UNREACHABLE, Kind.BROKEN}
    )
    remaining = call.outbound.deadline - asyncio.get_running_loop().time()
    sent, idempotent = call.outbound.delivery.ever_sent, call.tool.idempotent
    return failed and may_retry(sent=sent, idempotent=idempotent, delay=delay, remaining=remaining)


def _refusal(fault: FaultError, call: _Call, now: float) -> Refusal:
    tool, sent = call.tool, call.outbound.delivery.ever_sent
    code, ran = _CODES[fault.kind], None
    message = f"tool {tool.name} {fault.why}"
    if fault.kind is Kind.TIMEOUT:
        ran = Ran.UNKNOWN if sent else Ran.NO
        message += f": {now - call.began:.1f} s passed, its limit is {tool.timeout:g} s"
    elif fault.kind in _NOT_SENT and sent:
        code = Code.OUTCOME_UNKNOWN
        message += "; an earlier attempt had been sent"
    if code is Code.OUTCOME_UNKNOWN or ran is Ran.UNKNOWN:
        message += "; whether it ran is not known"
    return Refusal(
        code,
        message,
        ran=ran,
        fix=_whom_to_ask(tool),
        details={"fault": fault.kind.value, "cause": fault.cause},
        retry_after=None if fault.retry_after is None else max(1, round(fault.retry_after)),
    )


def _whom_to_ask(tool: Tool) -> str | None:
    return f"ask {tool.upstream.owner}, who owns this tool" if tool.upstream.owner else None
