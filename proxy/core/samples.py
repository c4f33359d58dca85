"""Samples of a policy: named inputs that must be allowed, denied or held, and what must be said about them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from proxy.core.absence import Pardon

_KEYS = {"name": str, "codes": list, "set": dict, "unset": list, "input": dict}
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


def read_samples(
    policy: str, effect: str, entries: Any, base: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[Sample]:
    """Samples of one file: a list of {"name", "codes", "set"?: {dotted path: value}, "unset"?: [dotted path], "input"?}.

    The changes are to `input`, or to `base` where there is none, and what comes of them fits `schema`. Raises SampleError.
    """
    if not isinstance(entries, list):
        raise SampleError("a list of samples is wanted ([] for none)")
    samples = [_sample(policy, effect, entry, base) for entry in entries]
    if len({sample.name for sample in samples}) < len(samples):
        raise SampleError("two samples have the same name")
    validator = jsonschema_rs.Draft7Validator(dict(schema))
    for sample in samples:
        for error in validator.iter_errors(sample.document):
            place = ".".join(map(str, error.instance_path))
            raise SampleError(f"{sample.name}: no input of Sidegate's: {place}: {error.message[:200]}")
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
    effect = decision.get("effect")
    said = _codes(decision.get(effect)) if isinstance(effect, str) else []
    if effect == sample.effect and {code for _, code in said} == sample.codes:
        return None
    wanted = _listed(sorted(sample.codes))
    named = _listed([f"{policy}.{code}" for policy, code in said])
    guards = decision.get("guards")
    why = (
        f"; guards that deny every such call: {', '.join(map(str, guards))}"
        if isinstance(guards, list) and guards
        else ""
    )
    return f"wanted {sample.effect} with {wanted}, got {effect} with {named}{why}"


def _codes(said: Any) -> list[tuple[str, str]]:
    """(policy, code) of every reason for an effect. What is no reason counts as said, too, whatever a policy made of it."""
    found = []
    for policy, reasons in sorted(said.items()) if isinstance(said, Mapping) else ():
        for reason in reasons if isinstance(reasons, list) else [reasons]:
            code = reason.get("code") if isinstance(reason, Mapping) else None
            found.append((policy, code if isinstance(code, str) else "(a reason without a code)"))
    return found


def _listed(codes: Sequence[str]) -> str:
    return f"{'code' if len(codes) == 1 else 'codes'} {', '.join(codes)}" if codes else "no code"


def _sample(policy: str, effect: str, entry: Any, base: Mapping[str, Any]) -> Sample:
    if not isinstance(entry, dict) or not {"name", "codes"} <= entry.keys() <= _KEYS.keys():
        raise SampleError("a sample has name and codes, and may have set, unset and input")
    if not all(isinstance(value, _KEYS[key]) for key, value in entry.items()):
        raise SampleError("name is text, codes and unset are lists, set and input are objects")
    document = copy.deepcopy(dict(entry.get("input", base)))
    for path, value in entry.get("set", {}).items():
        parent, key = _place(document, path)
        parent[key] = copy.deepcopy(value)
    for path in entry.get("unset", ()):
        parent, key = _place(document, path)
        if key not in parent:
            raise SampleError(f"no such place in the input: {path}")
        del parent[key]
    return Sample(policy=policy, name=entry["name"], effect=effect, codes=frozenset(entry["codes"]), document=document)


def _place(document: Any, path: str) -> tuple[dict[str, Any], str]:
    *parents, key = path.split(".")
    for part in parents:
        document = document.get(part) if isinstance(document, dict) else None
    if not isinstance(document, dict):
        raise SampleError(f"no such place in the input: {path}")
    return document, key
