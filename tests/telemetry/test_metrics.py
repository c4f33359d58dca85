"""Numbers, and the text in which Prometheus reads them (parsed strictly)."""

import math

import pytest

from proxy.telemetry import names
from proxy.telemetry.metrics import FAIL_CLOSED, MAX_REASONS, OUTCOMES, CallMetrics, Metrics
from tests.telemetry.exposition import parse


def calls(*known: str) -> tuple[Metrics, CallMetrics]:
    """Metrics of calls over a catalog of these tools."""
    metrics = Metrics()
    return metrics, CallMetrics(metrics, lambda tool: tool in known)


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Values of one metric by its label values."""
    samples = parse(metrics.exposition())[name].samples
    return {tuple(value for _, value in labels): number for (_, labels), number in samples.items()}


def test_calls_are_counted_by_tool_decision_and_code() -> None:
    """And apart if something of ours failed: what is not a decision of ours counts against us."""
    metrics, counted = calls("price.list")
    for _ in range(3):
        counted.concluded("price.list", "allow", "ok")
    counted.concluded("price.list", "none", "policy_unavailable")
    counted.concluded("price.list", "allow", "audit_unavailable")
    counted.concluded("price.list", "none", "invalid_json")
    assert values(metrics, names.CALLS_TOTAL) == {
        ("price.list", "allow", "ok"): 3,
        ("price.list", "none", "policy_unavailable"): 1,
        ("price.list", "allow", "audit_unavailable"): 1,
        ("price.list", "none", "invalid_json"): 1,
    }
    failed = {code: count for code, count in values(metrics, names.FAIL_CLOSED_TOTAL).items() if count}
    assert failed == {("policy_unavailable",): 1, ("audit_unavailable",): 1}
    assert values(metrics, names.DECISIONS_TOTAL) == {("allow",): 3, ("deny",): 0, ("review",): 0}


def test_what_is_alerted_on_begins_with_zero() -> None:
    """Prometheus sees the first failure only as an increase of a series that was there."""
    metrics, _ = calls()
    assert values(metrics, names.FAIL_CLOSED_TOTAL) == {(code,): 0 for code in FAIL_CLOSED}
    samples = parse(metrics.exposition())[names.REVIEW_WAIT_SECONDS].samples
    counts = {labels[0][1]: value for (name, labels), value in samples.items() if name.endswith("_count")}
    assert counts == dict.fromkeys(OUTCOMES, 0)
    metrics.histogram(names.LOOP_LAG_SECONDS)
    assert parse(metrics.exposition())[names.LOOP_LAG_SECONDS].samples[f"{names.LOOP_LAG_SECONDS}_count", ()] == 0


def test_what_decided_is_counted_by_policy_and_reason() -> None:
    """A reason that does not look like one, or one too many, is `_other`: policies of others can make up reasons without end."""
    metrics, counted = calls()
    counted.refused_by("deny", "budgets", "over_limit")
    counted.refused_by("review", "budgets", "over_limit")
    counted.refused_by("deny", "mine", "customer 4711")
    for number in range(MAX_REASONS):
        counted.refused_by("deny", "mine", f"r{number}")
    counted.refused_by("deny", "budgets", "over_limit")
    found = values(metrics, names.DECIDING_REASONS_TOTAL)
    assert (found["deny", "budgets", "over_limit"], found["review", "budgets", "over_limit"]) == (2, 1)
    assert found["deny", names.OTHER, names.OTHER] == 2
    assert len(found) == MAX_REASONS + 2


def test_a_person_is_timed_up_to_a_day() -> None:
    """By what became of the review."""
    metrics, counted = calls()
    counted.reviewed("approved", 7200.0)
    samples = parse(metrics.exposition())[names.REVIEW_WAIT_SECONDS].samples
    within = {
        labels[1][1]: value
        for (name, labels), value in samples.items()
        if name.endswith("_bucket") and labels[0][1] == "approved"
    }
    assert (within["3600.0"], within["7200.0"], within["86400.0"]) == (0, 1, 1)
    assert samples[f"{names.REVIEW_WAIT_SECONDS}_sum", (("outcome", "approved"),)] == 7200.0


def test_openmetrics_has_families_without_total_and_an_end() -> None:
    """Otherwise the same numbers."""
    metrics, counted = calls("price.list")
    counted.concluded("price.list", "allow", "ok")
    lines = metrics.exposition(openmetrics=True).split("\n")
    assert lines[-2:] == ["# EOF", ""]
    assert "# TYPE sidegate_calls counter" in lines
    assert 'sidegate_calls_total{tool="price.list",decision="allow",code="ok"} 1' in lines
    assert "# TYPE sidegate_stage_seconds histogram" in lines
    plain = metrics.exposition().splitlines()
    assert [x for x in lines if x and not x.startswith("#")] == [x for x in plain if not x.startswith("#")]


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
    seconds = metrics.histogram(names.LOOP_LAG_SECONDS, (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        seconds.observe(value)
    samples = parse(metrics.exposition())[names.LOOP_LAG_SECONDS].samples
    buckets = {labels[0][1]: value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 2, "1.0": 4, "+Inf": 5}
    assert samples[f"{names.LOOP_LAG_SECONDS}_sum", ()] == pytest.approx(8.65)


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
    metrics.gauge(names.BUILD_INFO, lambda: {(value,): 1})
    family = parse(metrics.exposition())[names.BUILD_INFO]
    expected = value.replace("\ud800", "\\ud800")
    assert family.samples == {(names.BUILD_INFO, (("version", expected),)): 1}


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
