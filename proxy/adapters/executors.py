"""Which executor runs a permit: told by the kind of the tool's upstream."""

from collections.abc import Callable, Mapping

from proxy.core import limits
from proxy.core.permit import Permit
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller, Response, SpanContext
from proxy.ports import Executor


class Executors:
    """Executor over one executor a kind of upstream. `stopped` is the switch that stands in a call's way (port Conversations):
    it may have been thrown while the intent was written."""

    def __init__(self, by_kind: Mapping[str, Executor], stopped: Callable[[Caller, CheckedCall], str | None]) -> None:
        self._by_kind = by_kind
        self._stopped = stopped

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """See Executor."""
        limits.refuse_stopped(self._stopped(permit.caller, permit.checked))
        executor = self._by_kind.get(permit.checked.tool.upstream.kind)
        if executor is None:
            raise Refusal(Code.TOOL_UNREACHABLE, "upstreams of this kind cannot be reached by this version")
        return await executor.execute(permit, trace)
