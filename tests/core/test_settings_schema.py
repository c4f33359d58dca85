"""The schema of the settings: closed everywhere, of the same names as the values, each described."""

from collections.abc import Iterator
from typing import Any

from proxy.core.schemas import compile_schema
from proxy.core.settings_schema import DESCRIPTIONS, SCHEMA
from proxy.settings import Issuer, Limits, Opa, Settings, Tokens

PORTS = ("tokens", "reviewers")
NOT_IN_THE_FILE = {"variables", "tools"}  # from the environment


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, with its place."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_the_schema_compiles() -> None:
    """By the same library that checks catalogs."""
    assert compile_schema(SCHEMA).problems({"state": "s", "catalog": "c", "policy": "p"}) == []


def test_every_object_is_closed() -> None:
    """A misspelt key is refused wherever it stands; only credentials, teams and attributes have names of the
    deployer's own."""
    found = dict(objects(SCHEMA))
    assert len(found) > 10
    open_ones = [path for path, schema in found.items() if schema["additionalProperties"] is not False]
    attributes = [
        f"/properties/{port}/properties/issuers/items/properties/claims/properties/attributes" for port in PORTS
    ]
    teams = "/properties/bundle/properties/teams"
    assert sorted(open_ones) == sorted([teams, "/properties/credentials", *attributes])


def test_every_setting_is_described_and_none_that_is_not_there() -> None:
    """The descriptions are README's reference."""
    assert set(DESCRIPTIONS) == set(SCHEMA["properties"])


def test_names_are_those_of_the_values() -> None:
    """What the schema takes, the frozen value has, at every level."""
    properties = SCHEMA["properties"]
    assert set(properties) == set(Settings.__dataclass_fields__) - NOT_IN_THE_FILE
    assert set(properties["opa"]["properties"]) == set(Opa.__dataclass_fields__)
    assert set(properties["limits"]["properties"]) == set(Limits.__dataclass_fields__)
    assert set(properties["tokens"]["properties"]) == set(Tokens.__dataclass_fields__)
    issuers = properties["reviewers"]["properties"]["issuers"]["items"]
    assert set(issuers["properties"]) == set(Issuer.__dataclass_fields__)


def test_no_bound_can_be_switched_off() -> None:
    """Zero is no limit."""
    problems = compile_schema(SCHEMA["properties"]["limits"]).problems(dict.fromkeys(Limits.__dataclass_fields__, 0))
    assert len(problems) == len(Limits.__dataclass_fields__)
