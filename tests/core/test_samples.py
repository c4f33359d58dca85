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


def test_a_file_without_samples_is_an_empty_list() -> None:
    """A policy that only denies has nothing to hold."""
    assert read_samples("p", "review", [], BASE, SCHEMA) == []


GOOD: dict[str, Any] = {"effect": "deny", "guards": [], "deny": {"p": [{"code": "c", "message": "m"}]}, "review": {}}


@pytest.mark.parametrize(
    ("codes", "changes", "sentence"),
    [
        (["c"], {}, None),
        (
            ["c"],
            {"effect": "allow", "allow": {"g": [{"code": "ok"}]}},
            "wanted deny with code c, got allow with code g.ok",
        ),
        (["c"], {"deny": {"p": [{"code": "d"}]}}, "wanted deny with code c, got deny with code p.d"),
        (["d", "c"], {}, "wanted deny with codes c, d, got deny with code p.c"),
        (
            ["c"],
            {"deny": {"p": [{"code": "c"}], "a": [{"code": "d"}]}},
            "wanted deny with code c, got deny with codes a.d, p.c",
        ),
        ([], {}, "wanted deny with no code, got deny with code p.c"),
        (
            ["c"],
            {"deny": {}, "guards": ["fact_missing"]},
            "wanted deny with code c, got deny with no code; guards that deny every such call: fact_missing",
        ),
        (["c"], {"deny": {"p": ["x"]}}, "wanted deny with code c, got deny with code p.(a reason without a code)"),
        (["c"], {"deny": {"p": True}}, "wanted deny with code c, got deny with code p.(a reason without a code)"),
        (
            ["c"],
            {"deny": {"p": [{"code": ["c"]}]}},
            "wanted deny with code c, got deny with code p.(a reason without a code)",
        ),
        (["c"], {"effect": None}, "wanted deny with code c, got None with no code"),
    ],
)
def test_how_a_decision_differs_is_said_in_words(
    codes: list[str], changes: dict[str, Any], sentence: str | None
) -> None:
    """What was wanted, what was said, by which policies; whatever they made of their reasons."""
    assert unlike(sample(codes=codes), {**GOOD, **changes}) == sentence


def test_an_answer_that_is_no_decision_is_quoted() -> None:
    assert unlike(sample(), "500") == "OPA answered 500"
