"""deploy/monitoring as data: rules, dashboard, pages, and the names of metrics and labels in an expression."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from proxy.errors import Code
from proxy.model import Effect
from proxy.telemetry import names
from proxy.telemetry.metrics import OUTCOMES
from tests.deploy.cluster import REPO

FOLDER = REPO / "deploy" / "monitoring"
RULES, DASHBOARD, PAGES = FOLDER / "rules.yaml", FOLDER / "dashboard.json", FOLDER / "runbooks"
HISTOGRAMS = frozenset({names.STAGE_SECONDS, names.REVIEW_WAIT_SECONDS, names.LOOP_LAG_SECONDS})
SCRAPERS = frozenset({"namespace", "pod"})  # what the scraper adds
# Values that a label can have; of the others any may come.
VALUES: Mapping[str, frozenset[str]] = {
    "code": frozenset({code.value for code in Code} | {names.OK}),
    "decision": frozenset({effect.value for effect in Effect} | {names.NO_DECISION}),
    "effect": frozenset(effect.value for effect in Effect),
    "outcome": frozenset(OUTCOMES),
}
# What Grafana fills in.
VARIABLES = {
    "$namespace": ".*",
    "$pod": ".*",
    "$tool": ".*",
    "$__rate_interval": "5m",
    "$__interval": "1m",
    "$__range": "6h",
}
_METRIC = re.compile(r"(?<![a-z_:])(sidegate_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Those that alert."""
    return [rule for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    """As committed."""
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[dict[str, Any]]:
    """Panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def shown() -> Iterator[tuple[str, str]]:
    """Where, and each expression of the dashboard as Prometheus gets it."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["name"], filled(annotation["expr"])


def filled(expression: str) -> str:
    """With Grafana's variables filled in."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def metrics_in(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Metrics of ours in an expression, each with its matchers (regular expressions as they are)."""
    for name, matchers in _METRIC.findall(expression):
        yield family(name), {label: value for label, _, value in _MATCHER.findall(matchers)}


def family(name: str) -> str:
    """The metric that a series belongs to."""
    found = re.fullmatch(r"(.+)_(?:bucket|sum|count)", name)
    return found[1] if found is not None and found[1] in HISTOGRAMS else name


def grouped_by(expression: str) -> set[str]:
    """Labels that an expression groups or joins by."""
    return {label.strip() for labels in _GROUPED.findall(expression) for label in labels.split(",") if label.strip()}


def labels_of(name: str) -> set[str]:
    """Labels that the series of a metric have once they are scraped."""
    return {*names.METRIC_LABELS.get(name, ()), *SCRAPERS, *(("le",) if name in HISTOGRAMS else ())}
