"""One list of names, each documented, none of ours in a namespace of others."""

import re

import pytest

from proxy.telemetry import names

CONSTANTS = {key: value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}
METRIC = re.compile(
    r"sidegate_[a-z_]+?"
    r"(_total|_seconds|_bytes|_info|_waiting|_not_enforcing|_up|_skew|_successful|_standing|_in_memory|_in_flight)"
)
CONVENTIONS = frozenset(
    {
        *("gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.conversation.id"),
        *("security_rule.ruleset.name", "security_rule.name", "security_rule.version"),
        *("error.type", "server.address", "server.port", "http.response.status_code"),
    }
)


def test_every_attribute_and_metric_is_documented() -> None:
    """A name without a sentence about it is emitted in vain."""
    dotted = {v for k, v in CONSTANTS.items() if "." in v and not v.startswith("http")} - {names.SCHEMA_URL}
    assert dotted | {names.HTTP_STATUS} == set(names.ALL_ATTRIBUTES)
    assert {v for v in CONSTANTS.values() if v.startswith("sidegate_")} == set(names.ALL_METRICS)
    assert all([*names.ALL_ATTRIBUTES.values(), *names.ALL_METRICS.values()])


@pytest.mark.parametrize("name", list(names.ALL_ATTRIBUTES))
def test_an_attribute_is_of_the_conventions_or_under_our_prefix(name: str) -> None:
    """Nothing of ours under `gen_ai.`, `mcp.` or `security_rule.`."""
    assert name in CONVENTIONS or name.startswith("sidegate.")


@pytest.mark.parametrize("name", list(names.ALL_METRICS))
def test_a_metric_says_its_unit_or_that_it_only_grows(name: str) -> None:
    """Prometheus naming, base units."""
    assert METRIC.fullmatch(name)


def test_labels_are_of_metrics_that_there_are() -> None:
    """And none takes a name that the scraper gives."""
    assert set(names.METRIC_LABELS) <= set(names.ALL_METRICS)
    given = {label for labels in names.METRIC_LABELS.values() for label in labels}
    assert not given & {"namespace", "pod", "container", "job", "instance", "le"}
