"""The instruments of one process, as the standard variables ask for them."""

import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.opa_process import OtlpTarget
from proxy.adapters.own_tools import OwnTools
from proxy.telemetry import names
from proxy.telemetry.setup import instruments
from tests.contracts.line import ADA, OwnersOfAll, ScriptedPolicy, Upstreams
from tests.contracts.opa_server import until
from tests.telemetry.receiver import receiving
from tests.telemetry.samples import ALLOWED, CALL, PARENT, RESULT, permit, trail

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


async def test_without_an_endpoint_nothing_is_exported_and_everything_is_counted() -> None:
    """A trace id there is all the same."""
    made = instruments({}, SystemClock())
    assert (made.exporter, made.opa_target) == (None, None)
    span = made.telemetry.begin(CALL, ADA)
    assert len(span.context.trace_id) == 32
    made.telemetry.conclude(span, trail(span.context, decision=ALLOWED), trail(span.context).answer(result=RESULT))
    assert f"{names.CALLS_TOTAL}{{" in made.metrics.exposition()
    assert f"{names.SPANS_DROPPED_TOTAL} 0" in made.metrics.exposition()
    await made.close()


async def test_spans_reach_the_collector_when_the_instruments_are_closed() -> None:
    """Under the service name that the variables give, else ours."""
    async with receiving() as receiver:
        made = instruments({ENDPOINT: receiver.url}, SystemClock())
        made.tracer.start("decide", names.SPAN_INTERNAL, None, record=True).end()
        await made.close()
        await until(lambda: bool(receiver.spans))
        assert [span.name for span in receiver.spans] == ["decide"]


async def test_the_ports_are_wrapped_in_spans_and_answer_as_before() -> None:
    """Policy, facts and executor."""
    async with receiving() as receiver:
        made = instruments({ENDPOINT: receiver.url}, SystemClock())
        policy, _, executor = made.traced(ScriptedPolicy(), OwnersOfAll(), Upstreams(OwnTools(SystemClock())))
        assert (await policy.decide(b"{}", PARENT)).effect == "allow"
        assert (await executor.execute(permit(), PARENT)).status == 200
        await made.close()
        await until(lambda: len(receiver.spans) == 2)
        assert {span.name for span in receiver.spans} == {"decide", "tools/call price.list"}


async def test_only_tools_of_the_catalog_become_labels() -> None:
    """As the catalog is at the time; a model can invent names without end."""
    made = instruments({}, SystemClock())
    known: dict[str, object] = {}
    made.known_tools = lambda: known
    for _ in range(2):
        span = made.telemetry.begin(CALL, ADA)
        made.telemetry.conclude(span, trail(span.context), trail(span.context).answer(result=RESULT))
        known["price.list"] = object()
    text = made.metrics.exposition()
    assert 'tool="_other"' in text
    assert 'tool="price.list"' in text


async def test_gauges_are_read_at_each_scrape() -> None:
    """Those with labels, too."""
    made = instruments({}, SystemClock())
    waiting = [0]
    made.watch({names.REVIEWS_WAITING: lambda: waiting[0], names.POLICY_REVISION_INFO: lambda: {("p1", "ns/sa"): 1}})
    for count in (0, 3):
        waiting[0] = count
        assert f"{names.REVIEWS_WAITING} {count}" in made.metrics.exposition()
    assert f'{names.POLICY_REVISION_INFO}{{revision="p1",agent="ns/sa"}} 1' in made.metrics.exposition()


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({ENDPOINT: "http://c:4318"}, OtlpTarget(type="http", address="c:4318")),
        ({ENDPOINT: "http://u:p@c:4318"}, OtlpTarget(type="http", address="c:4318")),
        ({ENDPOINT: "http://c:4318/otlp"}, None),
        ({ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a"}, None),
        (
            {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            OtlpTarget(type="grpc", address="c:4317"),
        ),
        ({ENDPOINT: "https://c:4318"}, None),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
async def test_opa_sends_its_spans_to_the_same_collector_where_it_can(
    variables: dict[str, str], target: OtlpTarget | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Not over TLS, not with headers or a path of its own (which is said), and not where nothing is exported."""
    made = instruments(variables, SystemClock())
    assert made.opa_target == target
    assert ("OPA's own spans are left out" in caplog.text) is (target is None and made.exporter is not None)
    await made.close()
