"""Samples of a policy: named inputs that must be allowed, denied or held, and what must be said about them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.core.absence import Pardon

EFFECTS = {"allowed": "allow", "denied": "deny", "held": "review"}  # by file name


class SampleError(Exception):
    """A sample file that cannot be read as one; the sentence says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One input and what must come of it. `codes` are all that are said for the effect, by all policies."""

    policy: str
    name: str
    effect: str
    codes: frozenset[str]
    document: Mapping[str, Any]


def read_samples(policy: str, effect: str, entries: Any, base: Mapping[str, Any]) -> list[Sample]:
    """Samples of one file: a list of {"name", "codes", "set"?: {dotted path: value}, "unset"?: [dotted path]}, or with a whole
    "input" in place of set and unset. Raises SampleError."""
    if not isinstance(entries, list) or not entries:
        raise SampleError("a list of samples is wanted, not an empty one")
    samples = [_sample(policy, effect, entry, base) for entry in entries]
    if len({sample.name for sample in samples}) < len(samples):
        raise SampleError("two samples have the same name")
    return samples


def read_pardons(entries: Any) -> list[Pardon]:
    """Pardons of one file: a list of {"sample", "path", "kinds", "because"}. Raises SampleError."""
    try:
        return [
            Pardon(
                sample=entry["sample"], path=entry["path"], kinds=frozenset(entry["kinds"]), because=entry["because"]
            )
            for entry in entries
        ]
    except (KeyError, TypeError) as error:
        raise SampleError("a list of {sample, path, kinds, because} is wanted") from error


def unlike(sample: Sample, decision: Any) -> str | None:
    """How a decision differs from what the sample wants, as a sentence; None if it does not."""
    if not isinstance(decision, Mapping):
        return f"OPA answered {str(decision)[:300]}"
    if decision.get("effect") != sample.effect:
        said = {key: decision.get(key) for key in ("effect", "guards", "deny", "review")}
        return f"effect {sample.effect} is wanted, this was said: {said}"
    codes = {reason["code"] for reasons in decision[sample.effect].values() for reason in reasons}
    if codes != sample.codes:
        return f"codes {sorted(sample.codes)} are wanted, these were said: {sorted(codes)}"
    return None


def _sample(policy: str, effect: str, entry: Any, base: Mapping[str, Any]) -> Sample:
    if not isinstance(entry, dict) or not {"name", "codes"} <= entry.keys() <= {
        "name",
        "codes",
        "set",
        "unset",
        "input",
    }:
        raise SampleError("a sample has name, codes, and set and unset or input")
    document = copy.deepcopy(dict(entry.get("input", base)))
    for path, value in entry.get("set", {}).items():
        parent, key = _place(document, path)
        parent[key] = copy.deepcopy(value)
    for path in entry.get("unset", ()):
        parent, key = _place(document, path)
        del parent[key]
    return Sample(policy=policy, name=entry["name"], effect=effect, codes=frozenset(entry["codes"]), document=document)


def _place(document: Any, path: str) -> tuple[dict[str, Any], str]:
    *parents, key = path.split(".")
    for part in parents:
        document = document.get(part) if isinstance(document, dict) else None
    if not isinstance(document, dict):
        raise SampleError(f"no such place in the input: {path}")
    return document, key
