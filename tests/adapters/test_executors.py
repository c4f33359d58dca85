"""The upstream's kind tells who runs a permit."""

from typing import Literal

import pytest

from proxy.adapters.executors import Executors
from proxy.core.permit import Permit
from proxy.core.tool import CheckedCall, Upstream
from proxy.errors import Code, Ran, Refusal
from proxy.model import Caller, Response, SpanContext
from tests.contracts.executor import TRACE, http_tool, permit

Kind = Literal["http", "mcp", "caller"]


class Named:
    """Port Executor that answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[tuple[Permit, SpanContext]] = []

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        self.got.append((permit, trace))
        return Response(status=200, media_type="text/plain", body=self.name.encode())


def of_kind(kind: Kind) -> Permit:
    return permit(http_tool(Upstream(name="u", kind=kind), None))


@pytest.mark.parametrize("kind", ["http", "caller"])
async def test_a_permit_goes_to_the_executor_of_its_kind_as_it_is(kind: Kind) -> None:
    """And to no other."""
    executors = {name: Named(name) for name in ("http", "caller")}
    given = of_kind(kind)
    response = await Executors(executors, lambda *_: None).execute(given, TRACE)
    assert response.body == kind.encode()
    assert {name: one.got for name, one in executors.items()} == {"http": [], "caller": []} | {kind: [(given, TRACE)]}


async def test_a_kind_that_nobody_runs_is_refused_and_nothing_was_sent() -> None:
    """A catalog may be newer than this version."""
    with pytest.raises(Refusal) as no:
        await Executors({"http": Named("http")}, lambda *_: None).execute(of_kind("mcp"), TRACE)
    assert (no.value.code, no.value.ran) == (Code.TOOL_UNREACHABLE, Ran.NO)


@pytest.mark.parametrize("kind", ["http", "caller"])
async def test_after_a_stop_no_kind_is_begun(kind: Kind) -> None:
    """Thrown while the intent was written: neither sent nor handed over."""
    executors = {name: Named(name) for name in ("http", "caller")}
    given, asked = of_kind(kind), []

    def stopped(caller: Caller, checked: CheckedCall) -> str:
        asked.append((caller, checked))
        return "all calls are stopped"

    with pytest.raises(Refusal, match="all calls are stopped") as no:
        await Executors(executors, stopped).execute(given, TRACE)
    assert (no.value.code, no.value.ran) == (Code.STOPPED, Ran.NO)
    assert [one.got for one in executors.values()] == [[], []]
    assert asked == [(given.caller, given.checked)]
