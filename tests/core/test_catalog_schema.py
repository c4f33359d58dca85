"""The schema of catalog files is itself valid and closed everywhere."""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are not among our tools

from proxy.core.catalog_schema import CATALOG_SCHEMA

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
