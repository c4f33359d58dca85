"""A strict reader of the Prometheus text format 0.0.4, for tests."""

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\\n]|\\\\|\\n)+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (NaN|[+-]Inf|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(slots=True, kw_only=True)
class Family:
    """One metric: its samples by name and label values."""

    kind: str
    help: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """Families by name. Raises AssertionError for whatever the format does not allow."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    helped, current = "", ""
    for line in text.removesuffix("\n").split("\n"):
        if described := _HELP.fullmatch(line):
            helped, text_of = described.groups()
            assert helped not in families, f"{helped} comes twice"
            families[helped] = Family(kind="", help=text_of)
        elif typed := _TYPE.fullmatch(line):
            current, kind = typed.groups()
            assert current == helped, "TYPE follows HELP"
            families[current].kind = kind
        else:
            _sample(line, current, families[current])
    for name, family in families.items():
        if family.kind == "histogram":
            _histogram(name, family)
    return families


def _sample(line: str, current: str, family: Family) -> None:
    found = _SAMPLE.fullmatch(line)
    assert found is not None, f"no sample: {line!r}"
    name, labels, value = found.groups()
    suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
    assert name in {current + suffix for suffix in suffixes}, f"{name} is outside its family"
    key = (name, _labels(labels or ""))
    assert key not in family.samples, f"{key} comes twice"
    family.samples[key] = float(value)


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs, at = [], 0
    while at < len(text):
        found = _LABEL.match(text, at)
        assert found is not None, f"no label: {text[at:]!r}"
        value = re.sub(r"\\.", lambda escape: _ESCAPES[escape.group()], found.group(2))
        pairs.append((found.group(1), value))
        at = found.end()
    assert len({key for key, _ in pairs}) == len(pairs)
    return tuple(pairs)


def _histogram(name: str, family: Family) -> None:
    """Buckets are cumulative, end with +Inf, and agree with the count."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for (sample, labels), value in family.samples.items():
        if sample == f"{name}_bucket":
            assert labels[-1][0] == "le"
            series.setdefault(labels[:-1], []).append((float(labels[-1][1]), value))
    for labels, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), family.samples[f"{name}_count", labels])
        assert (f"{name}_sum", labels) in family.samples
