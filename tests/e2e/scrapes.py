"""What a scraper sees of a running sidecar, and the same drawn out over time for `promtool test rules`.

Prometheus adds up what a proxy does for hours; a test has seconds. So a situation is two real scrapes with something driven in
between, and a segment of a timeline is that situation again and again: each minute every counter grows by what it grew by
between the scrapes, and every gauge stands as it stood after (or glides there, if it is named).
"""

import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster import tool
from tests.e2e.sidecar import REPO, SidecarProcess
from tests.telemetry.exposition import parse

MONITORING = REPO / "deploy" / "monitoring"
RULES = MONITORING / "rules.yaml"
NAMESPACE, POD = "shop", "agent-1"  # what the scraper says of the pod

Series = tuple[str, tuple[tuple[str, str], ...]]  # name and labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Values of all series, and which of them only grow."""

    values: Mapping[Series, float]
    growing: frozenset[str]

    def value(self, name: str, **labels: str) -> float:
        """Of one series; the order of the labels does not matter. 0 if it is not there."""
        found = [v for (n, pairs), v in self.values.items() if n == name and dict(pairs) == labels]
        return found[0] if found else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What happened between two scrapes, once a minute for so many minutes."""

    before: Scrape
    after: Scrape
    minutes: int
    times: int = 1  # a minute
    glide: Collection[str] = ()  # gauges that go evenly from before to after


@dataclass(slots=True, kw_only=True)
class Timeline:
    """Pods and what they went through, side by side."""

    pods: Mapping[str, Sequence[Segment]] = field(default_factory=dict)

    @property
    def minutes(self) -> int:
        """How long it is."""
        return max((sum(s.minutes for s in segments) for segments in self.pods.values()), default=30)

    def input_series(self) -> list[dict[str, str]]:
        """As promtool takes them."""
        return [
            {"series": _named(series, pod), "values": _drawn(series, segments)}
            for pod, segments in self.pods.items()
            for series in dict.fromkeys(
                s for segment in segments for s in (*segment.before.values, *segment.after.values)
            )
        ]


async def scrape(rig: SidecarProcess) -> Scrape:
    """All that /metrics tells now."""
    async with rig.session.get(rig.url("probe") + "/metrics") as response:
        assert response.status == 200
        families = parse(await response.text())
    samples = {key: value for family in families.values() for key, value in family.samples.items()}
    growing = {
        name for family in families.values() if family.kind in ("counter", "histogram") for name, _ in family.samples
    }
    return Scrape(values=samples, growing=frozenset(growing))


def firing(timeline: Timeline, folder: Path, *, ever: bool = False) -> set[tuple[str, str]]:
    """(alert, severity) of what fires at the end of a timeline, or at any time of it, as promtool evaluates the rules."""
    window = f"[{timeline.minutes + 1}m]"
    alerts = f'ALERTS{{alertstate="firing"}}{window if ever else ""}'
    expression = f"group by (alertname, severity) ({f'last_over_time({alerts})' if ever else alerts})"
    code, said = _test(timeline, folder, {"expr": expression, "eval_time": f"{timeline.minutes}m", "exp_samples": []})
    if code == 0:
        return set()
    _, found, got = said.partition("got:")
    assert found, said
    # Nothing was expected, so that promtool says in its own notation what there is.
    return {(labels["alertname"], labels["severity"]) for labels in _labels(got)}


def _test(timeline: Timeline, folder: Path, test: dict[str, Any]) -> tuple[int, str]:
    file = folder / "test.yaml"
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": timeline.input_series(), "promql_expr_test": [test]}],
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False, width=10**6))
    return promtool("test", "rules", str(file))


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Exit code and all that it said."""
    done = subprocess.run(
        [tool("promtool"), *arguments],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


def _labels(text: str) -> list[dict[str, str]]:
    """Label sets `{a="b", c="d"}` in a text of promtool's."""
    sets = [part.partition("}")[0] for part in text.split("{")[1:]]
    return [
        {key.strip(): json.loads(value) for key, _, value in (pair.partition("=") for pair in found.split(", "))}
        for found in sets
    ]


def _named(series: Series, pod: str) -> str:
    name, labels = series
    pairs = (*labels, ("namespace", NAMESPACE), ("pod", pod))
    return f"{name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in pairs)}}}"


def _drawn(series: Series, segments: Sequence[Segment]) -> str:
    """The values of one series, one a minute, in promtool's notation."""
    first = segments[0].before.values.get(series)
    drawn, last = ["_" if first is None else _number(first)], first
    for segment in segments:
        before, after = segment.before.values.get(series), segment.after.values.get(series)
        if after is None:
            drawn += [
                "stale" if last is not None else "_",
                *([f"_x{segment.minutes - 1}"] if segment.minutes > 1 else []),
            ]
            last = None
            continue
        if series[0] in segment.after.growing:
            step = (after - (before or 0.0)) * segment.times
            start = (last or 0.0) + step
        elif series[0] in segment.glide and before is not None:
            step = (after - before) / segment.minutes
            start = before + step
        else:
            start, step = after, 0.0
        drawn.append(f"{_number(start)}{'-' if step < 0 else '+'}{_number(abs(step))}x{segment.minutes - 1}")
        last = start + step * (segment.minutes - 1)
    return " ".join(drawn)


def _number(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
