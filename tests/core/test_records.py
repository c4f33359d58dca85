"""Which records a call names. Whatever is named must be looked up: what is passed over is not checked by anybody."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from proxy.core import strict_json
from proxy.core.records import MAX_RECORDS, named_records
from proxy.core.tool import Argument
from proxy.errors import Code, Refusal
from proxy.model import Arguments, Resource
from tests.contracts.store_values import checked, tool


def named(text: str, *paths: str, role: Any = "record") -> list[tuple[str, str]]:
    """`(argument, id)` of the records that arguments of this JSON text name."""
    tree = strict_json.read_tree(text.encode())
    what = checked(replace(tool("t"), arguments=tuple(Argument(path=p, role=role, resource="customer") for p in paths)))
    found = named_records(replace(what, arguments=Arguments(raw=text.encode(), tree=tree, value={})))
    assert all(r.type == "customer" for r in found)
    return [(r.argument, r.id) for r in found]


@pytest.mark.parametrize(
    ("text", "path", "ids"),
    [
        ('{"id":"a"}', "id", ["a"]),
        ('{"id":7}', "id", ["7"]),
        ('{"id":18446744073709551617}', "id", ["18446744073709551617"]),
        ('{"id":1.0}', "id", ["1.0"]),
        ('{"id":""}', "id", [""]),
        ('{"id":["a",2,["b"]]}', "id", ["a", "2", "b"]),
        ('{"to":{"id":"a"}}', "to.id", ["a"]),
        ('{"to":[{"id":"a"},{"id":["b","c"]}]}', "to.id", ["a", "b", "c"]),
        ('{"to":[{"at":[{"id":"a"}]},{"at":[{"id":"b"}]}]}', "to.at.id", ["a", "b"]),
        ('{"other":"a"}', "id", []),
        ('{"id":null}', "id", []),
        ('{"id":[]}', "id", []),
    ],
)
def test_records_are_found_where_their_argument_is(text: str, path: str, ids: list[str]) -> None:
    """Numbers as they were written, lists looked through."""
    assert named(text, path) == [(path, one) for one in ids]


def test_every_argument_of_the_role_counts_and_no_other() -> None:
    """In the catalog's order."""
    assert named('{"a":"1","b":"2"}', "b", "a") == [("b", "2"), ("a", "1")]
    assert named('{"a":"1"}', "a", role="target") == []


def test_nobody_owns_a_record_before_it_is_looked_up() -> None:
    """Owner and tenant are unknown."""
    what = checked(replace(tool("t"), arguments=(Argument(path="a", role="record", resource="c"),)))
    found = named_records(replace(what, arguments=Arguments(raw=b"", tree={"a": "1"}, value={})))
    assert found == (Resource(argument="a", type="c", id="1"),)


@pytest.mark.parametrize("count", [MAX_RECORDS, MAX_RECORDS + 1])
def test_fifty_records_may_be_named_in_one_call(count: int) -> None:
    """One more is refused, and not cut."""
    ids = ",".join(f'"{n}"' for n in range(count))
    if count <= MAX_RECORDS:
        assert len(named(f'{{"id":[{ids}]}}', "id")) == count
        return
    with pytest.raises(Refusal) as no:
        named(f'{{"id":[{ids}]}}', "id")
    assert no.value.code is Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"to":[{"id":"mine"},[{"id":"theirs"}]]}', "to.id"),
        ('{"to":[{"id":"mine"},{"id":{"is":"theirs"}}]}', "to.id"),
        ('{"to":[{"id":"mine"},{"id":true}]}', "to.id"),
        ('{"to":["theirs",{"id":"mine"}]}', "to.id"),
        ('{"id":{"is":"theirs"}}', "id"),
        ('{"to":"theirs"}', "to.id"),
    ],
)
def test_what_may_name_a_record_in_another_form_is_refused_or_found_and_never_passed_over(text: str, path: str) -> None:
    """Beside a record of one's own it would reach the upstream without anybody having asked whose it is."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(Refusal):
        found = named(text, path)
    assert not found or (path, "theirs") in found


def test_what_names_no_record_by_its_form_is_refused() -> None:
    """An object or a truth value is no id: nobody could look it up."""
    for text in ('{"id":{"is":"theirs"}}', '{"id":true}', '{"id":["mine",{"is":"theirs"}]}'):
        with pytest.raises(Refusal) as no:
            named(text, "id")
        assert no.value.code is Code.INVALID_ARGUMENTS
