"""Every place of an input is changed in every way, and leniency has an order."""

import copy
from typing import Any

import pytest

from proxy.core.absence import Mutant, Pardon, more_lenient, mutants

DOCUMENT: dict[str, Any] = {"a": "x", "b": [1, {"c": True}], "d": None, "e": {}}


def test_every_place_in_every_way() -> None:
    """Containers as well, but they are not replaced; what is empty already is not emptied."""
    kinds = {(mutant.path, mutant.kind) for mutant in mutants(DOCUMENT)}
    assert kinds == {
        *(("a", kind) for kind in ("null", "delete", "empty", "replace")),
        *(("b", kind) for kind in ("null", "delete", "empty")),
        *(("b.0", kind) for kind in ("null", "delete", "empty", "replace")),
        *(("b.1", kind) for kind in ("null", "delete", "empty")),
        *(("b.1.c", kind) for kind in ("null", "delete", "replace")),
        *(("d", kind) for kind in ("delete", "replace")),
        *(("e", kind) for kind in ("null", "delete")),
    }


def test_a_mutant_changes_one_place() -> None:
    """And leaves the original alone."""
    before = copy.deepcopy(DOCUMENT)
    found = {(mutant.path, mutant.kind): mutant.document for mutant in mutants(DOCUMENT)}
    assert before == DOCUMENT
    assert found["a", "null"] == {**DOCUMENT, "a": None}
    assert found["a", "empty"] == {**DOCUMENT, "a": ""}
    assert found["a", "replace"] == {**DOCUMENT, "a": "something-else"}
    assert found["b.0", "delete"] == {**DOCUMENT, "b": [{"c": True}]}
    assert found["b.0", "replace"] == {**DOCUMENT, "b": [1_000_001, {"c": True}]}
    assert found["b.1.c", "replace"] == {**DOCUMENT, "b": [1, {"c": False}]}
    assert found["e", "delete"] == {"a": "x", "b": [1, {"c": True}], "d": None}


@pytest.mark.parametrize(
    ("effect", "than", "lenient"),
    [
        ("allow", "deny", True),
        ("allow", "review", True),
        ("review", "deny", True),
        ("review", "review", False),
        ("deny", "review", False),
        ("refused", "deny", False),
        ("None", "review", False),
    ],
)
def test_leniency(effect: str, than: str, lenient: bool) -> None:
    """Allow before review before deny; whatever else was said is a refusal."""
    assert more_lenient(effect, than) is lenient


def test_a_pardon_names_sample_path_and_kind() -> None:
    """Nothing beside them is pardoned."""
    mutant = Mutant(path="a.b", kind="null", document={})
    pardon = Pardon(sample="s", path="a.b", kinds=frozenset({"null"}), because="so")
    assert pardon.covers("s", mutant)
    assert not pardon.covers("t", mutant)
    assert not pardon.covers("s", Mutant(path="a", kind="null", document={}))
    assert not pardon.covers("s", Mutant(path="a.b", kind="empty", document={}))
    assert Pardon(sample="*", path="a.b", kinds=frozenset({"null"}), because="so").covers("t", mutant)
