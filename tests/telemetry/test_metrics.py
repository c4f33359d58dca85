"""Numbers, and the text in which Prometheus reads them (parsed strictly)."""

import math

import pytest

from proxy.telemetry import names
from proxy.telemetry.metrics import CallMetrics, Metrics
from tests.telemetry.exposition import parse


def calls(*known: str) -> tuple[Metrics, CallMetrics]:
    """Metrics of calls over a catalog of these tools."""
    metrics = Metrics()
    return metrics, CallMetrics(metrics, lambda tool: tool in known)


def test_calls_are_counted_by_tool_decision_and_code() -> None:
    """And apart if something of ours failed."""
    metrics, counted = calls("price.list")
    for _ in range(3):
        counted.concluded("price.list", "allow", "ok", failed_closed=False)
    counted.concluded("price.list", "none", "policy_unavailable", failed_closed=True)
    families = parse(metrics.exposition())
    labels = ("tool", "decision", "code")
    assert families[names.CALLS_TOTAL].kind == "counter"
    assert families[names.CALLS_TOTAL].samples == {
        (names.CALLS_TOTAL, tuple(zip(labels, ("price.list", "allow", "ok"), strict=True))): 3,
        (names.CALLS_TOTAL, tuple(zip(labels, ("price.list", "none", "policy_unavailable"), strict=True))): 1,
    }
    assert families[names.FAIL_CLOSED_TOTAL].samples == {
        (names.FAIL_CLOSED_TOTAL, (("code", "policy_unavailable"),)): 1
    }


def test_a_tool_that_the_catalog_does_not_have_is_other() -> None:
    """Its name is the model's, and a label value for ever."""
    _, counted = calls("price.list")
    assert (counted.label("price.list"), counted.label("made-up")) == ("price.list", names.OTHER)


def test_stages_are_seconds_and_what_none_took_is_overhead() -> None:
    """Stages and overhead add up to the total."""
    metrics, counted = calls()
    counted.took({"decide": 0.25, "upstream": 0.5}.items(), 1.0)
    counted.took({"decide": 2.0}.items(), 1.0)
    family = parse(metrics.exposition())[names.STAGE_SECONDS]
    sums = {labels[0][1]: value for (name, labels), value in family.samples.items() if name.endswith("_sum")}
    assert sums == {"decide": 2.25, "upstream": 0.5, "overhead": 0.25, "total": 2.0}


def test_a_bucket_holds_its_bound() -> None:
    """`le` means less or equal; what is over all bounds is in +Inf only."""
    metrics = Metrics()
    seconds = metrics.histogram(names.STAGE_SECONDS, (), (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        seconds.observe(value)
    samples = parse(metrics.exposition())[names.STAGE_SECONDS].samples
    buckets = {labels[0][1]: value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 2, "1.0": 4, "+Inf": 5}
    assert samples[f"{names.STAGE_SECONDS}_sum", ()] == pytest.approx(8.65)


def test_a_counter_without_labels_begins_with_zero() -> None:
    """So that its first increase is seen as one."""
    metrics, counted = calls()
    assert parse(metrics.exposition())[names.TELEMETRY_FAULTS_TOTAL].samples == {(names.TELEMETRY_FAULTS_TOTAL, ()): 0}
    counted.fault()
    assert parse(metrics.exposition())[names.TELEMETRY_FAULTS_TOTAL].samples == {(names.TELEMETRY_FAULTS_TOTAL, ()): 1}


@pytest.mark.parametrize("value", ['quote" back\\slash', "line\nbreak", "Grüße {a=1},b", "\\n", "", "bad\ud800"])
def test_label_values_are_escaped(value: str) -> None:
    """Whatever is in them, the text stays readable and they come back as they were."""
    metrics = Metrics()
    metrics.gauge(names.POLICY_REVISION_INFO, lambda: {(value,): 1}, ("revision",))
    family = parse(metrics.exposition())[names.POLICY_REVISION_INFO]
    expected = value.replace("\ud800", "\\ud800")
    assert family.samples == {(names.POLICY_REVISION_INFO, (("revision", expected),)): 1}


def test_numbers_kept_elsewhere_are_read_at_each_scrape() -> None:
    """Gauges and counters of other parts, registered at the composition root."""
    metrics, waiting = Metrics(), [0]
    metrics.gauge(names.REVIEWS_WAITING, lambda: waiting[0])
    metrics.counted(names.SPANS_DROPPED_TOTAL, lambda: 5)
    waiting[0] = 3
    families = parse(metrics.exposition())
    assert families[names.REVIEWS_WAITING].samples == {(names.REVIEWS_WAITING, ()): 3}
    assert (families[names.SPANS_DROPPED_TOTAL].kind, families[names.REVIEWS_WAITING].kind) == ("counter", "gauge")


def test_a_number_that_cannot_be_read_hides_no_other() -> None:
    """The scrape goes on."""

    def broken() -> float:
        raise OSError("the volume is gone")

    metrics = Metrics()
    metrics.gauge(names.JOURNAL_FREE_BYTES, broken)
    metrics.gauge(names.REVIEWS_WAITING, lambda: 1)
    families = parse(metrics.exposition())
    assert families[names.JOURNAL_FREE_BYTES].samples == {}
    assert families[names.REVIEWS_WAITING].samples == {(names.REVIEWS_WAITING, ()): 1}


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300, 1e-9, 0.1, 1 << 70])
def test_every_number_is_written_so_that_it_can_be_read(value: float) -> None:
    """Infinities have their own spelling."""
    metrics = Metrics()
    metrics.gauge(names.JOURNAL_FREE_BYTES, lambda: value)
    assert parse(metrics.exposition())[names.JOURNAL_FREE_BYTES].samples == {(names.JOURNAL_FREE_BYTES, ()): value}


def test_not_a_number_has_its_own_spelling() -> None:
    """As the format asks."""
    metrics = Metrics()
    metrics.gauge(names.JOURNAL_FREE_BYTES, lambda: math.nan)
    ((_, value),) = parse(metrics.exposition())[names.JOURNAL_FREE_BYTES].samples.items()
    assert math.isnan(value)


def test_a_metric_is_known_by_name_and_registered_once() -> None:
    """Every name has its help text, and is documented by it."""
    metrics = Metrics()
    metrics.counter(names.CALLS_TOTAL)
    with pytest.raises(ValueError, match="twice"):
        metrics.gauge(names.CALLS_TOTAL, lambda: 1)
    with pytest.raises(ValueError, match="not in"):
        metrics.counter("sidegate_other_total")
