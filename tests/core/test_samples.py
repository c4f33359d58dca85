"""Sample files: read strictly, and told how a decision differs."""

from typing import Any

import pytest

from proxy.core.samples import Sample, SampleError, read_pardons, read_samples, unlike

BASE: dict[str, Any] = {"call": {"tool": "a", "arguments": {"x": 1}}, "approval": None}
SCHEMA: dict[str, Any] = {"properties": {"call": {"type": ["object", "integer"]}}}


def sample(**fields: Any) -> Sample:
    """One denied sample of the policy p."""
    return read_samples("p", "deny", [{"name": "n", "codes": ["c"], **fields}], BASE, SCHEMA)[0]


def test_a_sample_changes_the_base() -> None:
    """By dotted path, null included; the base stays as it is."""
    changed = sample(set={"call.tool": "b", "call.arguments": {}, "approval": None}, unset=["call.arguments"])
    assert changed.document == {"call": {"tool": "b"}, "approval": None}
    assert BASE["call"] == {"tool": "a", "arguments": {"x": 1}}
    assert (changed.policy, changed.name, changed.effect, changed.codes) == ("p", "n", "deny", frozenset({"c"}))


def test_a_sample_with_an_input_of_its_own() -> None:
    """Instead of the base."""
    assert sample(input={"call": 1}).document == {"call": 1}


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [],
        {},
        ["x"],
        [{"name": "n"}],
        [{"name": "n", "codes": [], "sets": {}}],
        [{"name": "n", "codes": [], "set": {"call.tool.x": 1}}],
        [{"name": "n", "codes": [], "set": {"nowhere.x": 1}}],
        [{"name": "n", "codes": [], "unset": ["call.absent"]}],
        [{"name": "n", "codes": []}, {"name": "n", "codes": []}],
        [{"name": 7, "codes": []}],
        [{"name": "n", "codes": "granted"}],
        [{"name": "n", "codes": [], "set": ["x"]}],
        [{"name": "n", "codes": [], "input": []}],
        [{"name": "n", "codes": [], "set": {"call": "misfit"}}],
    ],
)
def test_a_file_that_is_none(entries: Any) -> None:
    """A slip in a sample is an error, not a sample that proves nothing."""
    with pytest.raises(SampleError):
        read_samples("p", "deny", entries, BASE, SCHEMA)


@pytest.mark.parametrize("entries", [None, [1], [{}], [{"sample": "s", "path": "p", "kinds": ["null"]}]])
def test_a_pardon_has_a_reason(entries: Any) -> None:
    """And sample, path and kinds."""
    with pytest.raises(SampleError):
        read_pardons(entries)


def test_how_a_decision_differs() -> None:
    """Another effect, other codes, or no decision at all."""
    good = {"effect": "deny", "guards": [], "deny": {"p": [{"code": "c"}]}, "review": {}}
    assert unlike(sample(), good) is None
    assert "effect deny is wanted" in str(unlike(sample(), {**good, "effect": "allow"}))
    assert "codes ['c'] are wanted" in str(unlike(sample(), {**good, "deny": {"p": [{"code": "d"}]}}))
    assert "OPA answered" in str(unlike(sample(), "500"))
