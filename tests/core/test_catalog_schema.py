"""The schema of catalog files is itself valid and closed everywhere."""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are not among our tools
import pytest

from proxy.core.catalog_schema import CATALOG_SCHEMA
from tests.core.sample_catalog import DOCUMENT, document, problems

FREE = {"arguments_schema", "result_schema", "default"}  # what they hold is the tool author's


def objects(schema: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            yield name, schema
        for key, sub in schema.items():
            yield from objects(sub, key)
    elif isinstance(schema, list):
        for sub in schema:
            yield from objects(sub, name)


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(CATALOG_SCHEMA)


def test_every_object_says_which_keys_it_takes() -> None:
    found = list(objects(CATALOG_SCHEMA))
    assert len(found) > 15
    assert {name for name, o in found if "additionalProperties" not in o} == FREE


ODD: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\0",
    "x" * 5000,
    "0000-01-01",
    "999999m",
    "{}",
    [],
    {},
    [None],
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:20])
def test_whatever_stands_in_any_place_is_a_problem_or_a_catalog(value: Any) -> None:
    """Nothing else comes out: a traceback would hide what is wrong, and end who watches the files."""
    for place in places(DOCUMENT):
        problems(document((place, value)))


def places(tree: Any, path: str = "") -> Iterator[str]:
    """Every place of a document, as `document` names it."""
    keyed = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, below in keyed:
        if "/" not in str(key):
            yield f"{path}{key}"
            yield from places(below, f"{path}{key}/")
