"""A call against its tool: the name, the version, the arguments, and what an old form becomes."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.check import check
from proxy.core.digest import call_digest
from proxy.core.strict_json import read_tree, read_values, write
from proxy.core.tool import CheckedCall, Snapshot
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Arguments, Dialect, ToolCall
from tests.core.sample_catalog import TODAY, document, load

KEY = b"k" * 32
CANARY = "sk-canary-5f1e"


def call(arguments: str, tool: str = "get_capacity", version: str | None = None) -> ToolCall:
    tree = read_tree(arguments.encode())
    raw = write(tree)
    given_arguments = Arguments(raw=raw, tree=tree, value=read_values(raw))
    return ToolCall(id="c-1", tool=tool, version=version, arguments=given_arguments, dialect=Dialect.NATIVE)


def checked(it: ToolCall, *changes: tuple[str, Any], today: date = TODAY) -> CheckedCall:
    catalog = load(document(*changes), today=today)
    return check(it, Snapshot(catalog=catalog, policy_revision="r"), today=today, key=KEY)


def refused(it: ToolCall, *changes: tuple[str, Any], today: date = TODAY) -> Refusal:
    with pytest.raises(Refusal) as caught:
        checked(it, *changes, today=today)
    assert caught.value.ran is Ran.NO
    return caught.value


def test_a_valid_call_keeps_its_arguments_byte_for_byte() -> None:
    it = call('{"week":5.0,"supplier_id":"s-1"}')
    done = checked(it)
    assert done.arguments is it.arguments
    assert done.arguments.raw == b'{"week":5.0,"supplier_id":"s-1"}'
    assert (done.tool.name, done.version.version, done.asked, done.changes) == ("get_capacity", "2", "2", ())
    assert done.digest == call_digest("get_capacity", it.arguments.tree, KEY)


NAMES = {
    "misspelt": "get_capcity",
    "case": "GET_CAPACITY",
    "trailing space": "get_capacity ",
    "leading space": " get_capacity",
    "prefix": "get_cap",
    "longer": "get_capacity_all",
    "Cyrillic e": "g\u0435t_capacity",
    "zero width": "get_\u200bcapacity",
    "full width": "\uff47et_capacity",
    "path": "../get_capacity",
    "upstream's name": "capacity.get",
    "empty": "",
    "10 KB": "get_capacity" * 900,
    "line break": "get_capacity\n",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_name_that_is_not_exactly_a_tools_is_unknown(name: str) -> None:
    refusal = refused(call('{"supplier_id":"s-1"}', tool=name))
    assert refusal.code is Code.UNKNOWN_TOOL
    assert refusal.retry is Retry.NEVER
    assert len(refusal.message) < 200
    assert refusal.message.isprintable()


def test_no_other_tool_is_suggested() -> None:
    refusal = refused(call("{}", tool="get_capacit"))
    assert "get_capacity" not in f"{refusal.message} {refusal.fix}"


def test_a_quarantined_tool_is_refused_and_only_the_details_say_why() -> None:
    broken = ("tools/0/versions/0/arguments_schema/properties/week", {"minimum": CANARY})
    refusal = refused(call('{"supplier_id":"s-1"}'), broken)
    assert refusal.code is Code.TOOL_QUARANTINED
    assert CANARY not in f"{refusal.message} {refusal.fix}"
    assert CANARY in str(refusal.details)
    assert "sourcing-team" in (refusal.fix or "")


def test_a_retired_tool_says_since_when() -> None:
    end = ("tools/2/versions/0/supported_until", "2026-11-24")
    refusal = refused(call("{}", tool="draw_chart"), end)
    assert refusal.code is Code.UNSUPPORTED_VERSION
    assert refusal.message == "the tool draw_chart has been retired: it was supported until 2026-11-24"
    assert checked(call("{}", tool="draw_chart"), end, today=date(2026, 11, 24)).asked == "1"


@pytest.mark.parametrize("version", ["3", "1.0", "", "latest", "2 "])
def test_a_version_that_is_not_there_is_refused_with_those_that_are(version: str) -> None:
    refusal = refused(call('{"supplier_id":"s-1"}', version=version))
    assert refusal.code is Code.UNSUPPORTED_VERSION
    assert refusal.retry is Retry.AFTER_CHANGE
    assert (
        refusal.message == f"version '{version}' of get_capacity is not supported; supported: 2, 1 (until 2027-03-01)"
    )


def test_an_old_version_is_supported_through_its_last_day_and_no_longer() -> None:
    last = date(2027, 3, 1)
    for version in ("1", None):
        assert checked(call('{"vendor":"s-1"}', version=version), today=last).asked == "1"
    after = last + timedelta(days=1)
    assert refused(call('{"vendor":"s-1"}', version="1"), today=after).message.endswith("supported: 2")
    assert refused(call('{"vendor":"s-1"}'), today=after).code is Code.INVALID_ARGUMENTS


def test_the_version_asked_for_alone_counts() -> None:
    assert refused(call('{"vendor":"s-1"}', version="2")).code is Code.INVALID_ARGUMENTS
    assert refused(call('{"supplier_id":"s-1"}', version="1")).code is Code.INVALID_ARGUMENTS


def test_an_old_call_becomes_one_of_the_newest_form() -> None:
    done = checked(call('{"verbose":true,"vendor":"s-1"}'))
    assert (done.asked, done.version.version) == ("1", "2")
    assert done.arguments.raw == b'{"supplier_id":"s-1","week":1}'
    assert done.arguments.value == {"supplier_id": "s-1", "week": 1}
    assert write(done.arguments.tree) == done.arguments.raw
    assert done.changes == ("renamed vendor to supplier_id", "dropped verbose", "set week to its default")
    assert done.digest == checked(call('{"supplier_id":"s-1","week":1}')).digest


def test_an_old_call_without_the_dropped_argument_changes_less() -> None:
    assert checked(call('{"vendor":"s-1"}')).changes == ("renamed vendor to supplier_id", "set week to its default")


def test_an_argument_that_is_there_keeps_its_value_against_a_default() -> None:
    old = ("tools/0/versions/1/arguments_schema/properties/week", {"type": "integer"})
    done = checked(call('{"week":7,"vendor":"s-1"}'), old)
    assert done.arguments.raw == b'{"week":7,"supplier_id":"s-1"}'
    assert done.changes == ("renamed vendor to supplier_id",)


def test_an_old_version_with_the_same_names_needs_no_mapping() -> None:
    same = document()["tools"][0]["versions"][0]["arguments_schema"]
    looser = {**same, "properties": {**same["properties"], "week": {"type": "integer"}}}
    versions = ("tools/0/versions/1", {"version": "1", "arguments_schema": looser})
    done = checked(call('{"supplier_id":"s-1","week":3}', version="1"), versions)
    assert (done.asked, done.version.version, done.changes) == ("1", "2", ())
    assert refused(call('{"supplier_id":"s-1","week":0}'), versions).message.endswith("/week: must be at least 1")


def test_number_tokens_survive_an_upgrade() -> None:
    old = ("tools/0/versions/1/arguments_schema/properties/vendor", {"type": ["string", "integer"]})
    new = ("tools/0/versions/0/arguments_schema/properties/supplier_id", {"type": "integer"})
    done = checked(call('{"vendor":9007199254740993}'), old, new)
    assert done.arguments.raw == b'{"supplier_id":9007199254740993,"week":1}'
    assert checked(call('{"vendor":5.0}'), old, new).arguments.raw == b'{"supplier_id":5.0,"week":1}'


def test_upgraded_arguments_must_be_valid_in_the_newest_version() -> None:
    short = ("tools/0/versions/0/arguments_schema/properties/supplier_id", {"type": "string", "maxLength": 3})
    refusal = refused(call('{"vendor":"much too long"}'), short)
    assert refusal.message == (
        "the arguments of get_capacity (version 1), brought to version 2, are not valid: "
        "/supplier_id: must have at most 3 characters"
    )


OLD_OPEN = ("tools/0/versions/1/arguments_schema/additionalProperties", True)


def test_two_arguments_that_would_become_one_are_refused() -> None:
    refusal = refused(call('{"vendor":"s-1","supplier_id":"s-2"}', version="1"), OLD_OPEN)
    assert refusal.message.endswith("two arguments become one in version 2")


def test_what_an_open_old_version_lets_in_must_pass_the_newest() -> None:
    refusal = refused(call('{"vendor":"s-1","extra":1}', version="1"), OLD_OPEN)
    assert "unknown argument 'extra'" in refusal.message


def test_arguments_that_fit_two_old_versions_are_of_neither() -> None:
    base = load().tools["get_capacity"].versions
    assert len(base) == 2
    old = document()["tools"][0]["versions"]
    twice = [old[0], {**old[1], "version": "1b", "supported_until": "2027-03-02"}, old[1]]
    refusal = refused(call('{"vendor":"s-1"}'), ("tools/0/versions", twice))
    assert "argument 'supplier_id' is missing" in refusal.message
    assert checked(call('{"vendor":"s-1"}', version="1b"), ("tools/0/versions", twice)).asked == "1b"


def test_every_fault_is_listed_with_pointer_wanted_and_got() -> None:
    text = json.dumps({"suplier_id": CANARY, "week": CANARY})
    refusal = refused(call(text))
    assert refusal.code is Code.INVALID_ARGUMENTS
    for said in (
        "argument 'supplier_id' is missing",
        "/week: must be integer, got string",
        "unknown argument 'suplier_id'; did you mean 'supplier_id'?",
    ):
        assert said in refusal.message
    assert CANARY not in f"{refusal.message} {refusal.fix} {refusal.details}"
    assert refusal.details is not None
    assert {"at": "/week", "problem": "must be integer, got string"} in refusal.details["problems"]  # type: ignore[operator]  # details are plain objects


@pytest.mark.parametrize("week", ['"5"', "true", "1.5", "[1]", "null", '"five"'])
def test_nothing_is_coerced(week: str) -> None:
    assert refused(call('{"supplier_id":"s-1","week":' + week + "}")).code is Code.INVALID_ARGUMENTS


def test_text_that_looks_like_a_number_stays_text() -> None:
    assert checked(call('{"supplier_id":"0123"}')).arguments.raw == b'{"supplier_id":"0123"}'


def test_a_message_has_a_limit_whatever_was_sent() -> None:
    huge = json.dumps({f"{'k' * 500}{n}": n for n in range(3000)})
    assert len(refused(call(huge)).message) < 10_000


VENDOR = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)


@given(VENDOR, st.none() | st.booleans(), st.randoms())
def test_an_upgrade_always_gives_the_newest_form_and_the_digest_of_that_form(
    vendor: str, verbose: bool | None, random: Any
) -> None:
    old = {"vendor": vendor} | ({} if verbose is None else {"verbose": verbose})
    items = list(old.items())
    random.shuffle(items)
    done = check(call(json.dumps(dict(items))), SNAPSHOT, today=TODAY, key=KEY)
    new = {"supplier_id": vendor, "week": 1}
    assert done.arguments.value == new
    assert done.version.arguments.problems(done.arguments.value) == []
    assert done.digest == check(call(json.dumps(new)), SNAPSHOT, today=TODAY, key=KEY).digest


SNAPSHOT = Snapshot(catalog=load(), policy_revision="r")
