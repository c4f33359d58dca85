"""Which executor runs a permit: told by the kind of the tool's upstream."""

from collections.abc import Mapping

from proxy.core.permit import Permit
from proxy.errors import Code, Refusal
from proxy.model import Response, SpanContext
from proxy.ports import Executor


class Executors:
    """Executor over one executor a kind of upstream."""

    def __init__(self, by_kind: Mapping[str, Executor]) -> None:
        self._by_kind = by_kind

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """See Executor."""
        executor = self._by_kind.get(permit.checked.tool.upstream.kind)
        if executor is None:
            raise Refusal(Code.TOOL_UNREACHABLE, "upstreams of this kind cannot be reached by this version")
        return await executor.execute(permit, trace)
