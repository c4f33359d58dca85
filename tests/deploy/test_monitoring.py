"""Rules, dashboard and runbook pages agree with each other and with the metrics that there are."""

import re
from typing import Any

import pytest

from proxy.telemetry import names
from tests.deploy.monitored import (
    FOLDER,
    PAGES,
    SCRAPERS,
    VALUES,
    alerts,
    dashboard,
    grouped_by,
    labels_of,
    metrics_in,
    panels,
    rules,
    shown,
)

EXPRESSIONS = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()] + list(shown())
PAGE_NAMES = sorted(path.stem for path in PAGES.glob("*.md"))
SEVERITIES = {"critical", "warning", "info"}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_an_expression_is_of_metrics_labels_and_values_that_there_are(where: str, expression: str) -> None:
    """A misspelt one is no error to Prometheus: the alert would never fire, the panel stay empty."""
    found = list(metrics_in(expression))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set(re.findall(r"[a-z_]+:[a-z_0-9]+:[a-z_0-9]+", expression))
    assert used <= recorded
    assert found or used or "vector" in expression
    known = set(SCRAPERS)
    for name, matchers in found:
        assert name in names.ALL_METRICS, where
        known |= labels_of(name)
        assert set(matchers) <= labels_of(name), (where, name)
        for label, value in matchers.items():
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], (where, label)
    assert grouped_by(expression) <= known | {"tool", "agent"}, where


def test_every_metric_is_looked_at() -> None:
    """By a panel, or by a rule; one that nobody looks at is paid for in vain."""
    used = {name for _, expression in EXPRESSIONS for name, _ in metrics_in(expression)}
    assert set(names.ALL_METRICS) - used == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels'].get('window', '')}")
def test_an_alert_says_whom_it_wakes_what_it_means_and_where_that_is_written(alert: dict[str, Any]) -> None:
    """Its texts name only labels that are left after its grouping; an alert of one pod names the pod."""
    assert alert["labels"]["severity"] in SEVERITIES
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"deploy/monitoring/runbooks/{alert['alert']}.md"
    named = set(re.findall(r"\$labels\.([a-z_]+)", notes["summary"] + notes["description"]))
    outermost = re.search(r"by \(([^)]*)\)", alert["expr"])
    left = {label.strip() for label in outermost[1].split(",")} if outermost else set()
    assert named <= left | {"namespace"}
    assert not ({"pod", "tool", "agent"} & left - named)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    """Whoever is woken finds something to read."""
    assert sorted({alert["alert"] for alert in alerts()}) == PAGE_NAMES


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_a_page_says_what_it_means_how_to_look_and_what_to_do(name: str) -> None:
    """In Jaeger too; with the severity that the rule has, metrics and attributes that there are, and links that lead somewhere."""
    text = (PAGES / f"{name}.md").read_text()
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == [
        f"# {name}",
        "## What it means",
        "## How to look",
        "## What to do",
    ]
    severities = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == name}
    assert set(re.findall(r"critical|warning|info\b", text.split("\n")[2])) == severities
    assert "Jaeger" in text
    assert {link for link in re.findall(r"\]\(([^)]+)\)", text) if not (PAGES / link).is_file()} == set()
    assert set(re.findall(r"sidegate_[a-z_]+", text)) <= set(names.ALL_METRICS)
    assert set(re.findall(r"`((?:sidegate|gen_ai|security_rule)\.[a-z_.]+)", text)) <= set(names.ALL_ATTRIBUTES)
    assert set(re.findall(r"Sidegate[A-Z][A-Za-z]+", text)) <= set(PAGE_NAMES)


def test_readme_lists_every_metric_with_its_labels_and_every_alert_with_its_severity() -> None:
    """As they are."""
    text = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| `(sidegate_[a-z_]+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    assert {name: (re.findall(r"`([a-z_]+)`", labels), told) for name, labels, told in rows} == {
        name: (list(names.METRIC_LABELS.get(name, ())), told) for name, told in names.ALL_METRICS.items()
    }
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", text, re.MULTILINE)
    assert listed == [(alert["alert"], alert["alert"], alert["labels"]["severity"]) for alert in alerts()]


def test_the_dashboard_answers_what_is_asked_at_night() -> None:
    """A row for each question, in the order in which they are asked."""
    assert [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"] == [
        "Is anything wrong now?",
        "Which tool fails?",
        "Who is refused, and why?",
        "Are we failing closed, or not enforcing?",
        "Who waits for a person, and how long?",
        "Did policy change, and do pods agree?",
        "Is the audit volume filling?",
        "What does it cost, and does it tell?",
    ]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Data source, namespace, pod, tool and Jaeger are variables; ids are unique, and no panel covers another."""
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "pod", "tool", "jaeger", "service"]
    assert variables["datasource"]["type"] == "datasource"
    assert {str(panel["datasource"]["uid"]) for panel in panels()} == {"${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        covered |= cells


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    """And a panel about calls leads to their traces, by attributes that there are."""
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    links = [link["url"] for panel in panels() for link in panel["fieldConfig"]["defaults"].get("links", [])]
    assert len(links) >= 6
    assert all(link.startswith("${jaeger}/search?service=${service}") for link in links)
    used = {key for link in links for key in re.findall(r"%22((?:[a-z_]+\.)+[a-z_]+)%22%3A", link)}
    assert used
    assert used <= set(names.ALL_ATTRIBUTES)


def test_no_page_or_rule_sends_anybody_to_a_host_of_ours() -> None:
    """Hosts in them are those of the reader's own machine, or of no one."""
    for path in sorted(FOLDER.rglob("*.*")):
        hosts = set(re.findall(r"https?://([^/\s\"#'$`]+)", path.read_text()))
        assert hosts <= {"127.0.0.1:16686", "runbooks.example.com"}, path
