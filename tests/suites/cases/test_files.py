"""Section 16: files of other projects as shapes, written by ourselves (F01, F03, F05-F09), against catalog and policy."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.e2e.rig import REPO, Rig, native, tool
from tests.suites.cases.kit import note, refused
from tests.suites.cases.own_policies import CONFLICTED, CURRENCIES, HEAD, TALKATIVE, bring

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUE = {
    "method": {"type": "string", "enum": ["create", "update"]},
    "issue_number": {"type": "number", "minimum": 1},
    "title": {"type": "string"},
    "show_ui": {"type": "boolean"},
}
PAY = {"currency": {"type": "string"}, "amount": {"type": "number"}}


def prepare(rig: Rig) -> None:
    """One name for a mild and a strong action, a payment, policies in the shapes of the files."""
    bring(rig, {"conflicted": CONFLICTED, "talkative": TALKATIVE, "currencies": CURRENCIES})
    body = {"method": "POST", "path": "/issues", "body": {name: name for name in ISSUE}}
    schema = {"type": "object", "properties": ISSUE, "required": ["method"]}
    rig.catalog["tools"] += [
        tool("issue_write", "inventory", "read", body, versions=[{"version": "1", "arguments_schema": schema}]),
        tool(
            "pay", "inventory", "read", {"method": "POST", "path": "/pay", "body": {n: n for n in PAY}}, properties=PAY
        ),
        note("talk"),
        note("talk_long"),
        note("conflict"),
    ]
    grants = [
        {"arguments": {"method": {"one_of": ["update"]}, "show_ui": {"one_of": [False]}}},
        {"arguments": {"method": {"one_of": ["create"]}, "show_ui": {"one_of": [False]}}, "review": True},
    ]
    rig.policy["grants"]["tools"] = {"issue_write": {"buyer": grants}}
    rig.policy["review"]["approvers"] = ["sourcing-leads"]


async def test_f01_policy_reads_the_argument_that_decides(shared: Rig) -> None:
    """One tool, two actions: update runs, create is held, another method is no valid call, and a flag that turns the call
    into something that does not execute has to be given as the grant wants it."""
    handle = await shared.register("f01")
    mild = {"method": "update", "issue_number": 7, "show_ui": False}
    assert (await shared.send(handle, "issue_write", mild)).status == 200
    assert (await shared.send(handle, "issue_write", mild | {"method": "create"})).code == "review_pending"
    for wrong in ({"method": "delete"}, {"method": "Create"}, {"method": ["create"]}, {"method": None}):
        await refused(shared, handle, native("issue_write", mild | wrong), "invalid_arguments")
    for flag in ({"show_ui": True}, {}):
        given = {"method": "update", "issue_number": 7} | flag
        refusal = await refused(shared, handle, native("issue_write", given), "denied")
        assert {(r["policy"], r["code"]) for r in refusal["reasons"]} == {("grants", "out_of_bounds")}


async def test_f01_unknown_keys_do_not_pass(shared: Rig) -> None:
    """The shape declares no additionalProperties: it is closed all the same, and 1.5 stays a number as declared."""
    handle = await shared.register("f01k")
    given = {"method": "update", "show_ui": False}
    await refused(shared, handle, native("issue_write", given | {"assignees": ["x"]}), "invalid_arguments")
    assert (await shared.send(handle, "issue_write", given | {"issue_number": 1.5})).status == 200


LOGIN = {
    "name": "authenticate",
    "description": "Log in",
    "parameters": {
        "type": "dict",
        "properties": {"password": {"type": "string"}, "tags": {"type": "array", "default": []}},
    },
    "response": {"type": "dict", "properties": {"ok": {"type": "boolean"}}},
}


def checked(rig: Rig) -> tuple[int, str]:
    """Exit code and text of `sidegate check` on the files as they stand."""
    rig.write()
    command = [sys.executable, "-m", "proxy.cli", "check", "--settings", str(rig.folder / "sidegate.yaml")]
    said = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    return said.returncode, said.stdout + said.stderr


@pytest.mark.parametrize("word", ["dict", "float", "tuple", "any", "String", "int", "list", ""])
async def test_f03_a_type_that_is_none_is_refused(prepared: Rig, word: str) -> None:
    """Whether at the top or inside, in arguments or result: named in `check`, and never a schema that passes all."""
    inner = {"type": "object", "properties": {"text": {"type": word}}}
    for place in ("arguments_schema", "result_schema"):
        version = {"version": "1", "arguments_schema": {"type": "object"}} | {place: inner}
        prepared.catalog["tools"] = [note("odd", versions=[version])]
        code, said = checked(prepared)
        assert code == 64
        assert f"tool odd: version 1: {place}: /properties/text/type" in said


async def test_f03_a_file_of_another_format_is_no_catalog(prepared: Rig) -> None:
    """JSON lines with `parameters` and `response`: refused with their place, however the file is named."""
    assert checked(prepared)[0] == 0
    lines = f"{json.dumps(LOGIN)}\n{json.dumps(LOGIN)}\n"
    for content, expected in ((lines, "login.yaml"), (json.dumps({"tools": [LOGIN]}), "parameters")):
        (prepared.folder / "catalog" / "login.yaml").write_text(content)
        code, said = checked(prepared)
        assert code == 64
        assert expected in said


async def test_f05_no_reason_tells_the_agent_about_hosts(shared: Rig) -> None:
    """`details` of a policy, long and with paths, go to record and reviewers; the agent reads message and fix only. (Absent
    keys: tests/policies/test_absence_sweep.py, tests/adapters/test_bundle_proof.py.)"""
    handle = await shared.register("f05")
    refusal = await refused(shared, handle, native("create_order", {"sku": "S", "quantity": 101}), "denied")
    assert "details" not in json.dumps(refusal)
    record = await shared.ended(refusal["call_id"])
    assert "deny" in record["decision"]["said"]


async def test_f06_two_reasons_at_once_fail_closed(shared: Rig) -> None:
    """A user set, a tool not exposed: `allow` alone would be fine, the whole is an evaluation error. (More: C037.)"""
    handle = await shared.register("f06")
    await refused(shared, handle, native("conflict", {"text": "user, hidden"}), "policy_invalid")


F07 = {
    "allowed by default": "default allowed := true\n",
    "allow by default": "default allow := true\n",
    "allow as a boolean": "allow := true\n",
    "a misspelt deny": 'denies contains {"code": "x"} if input.tool.name == "x"\n',
    "deny as a rule with a value": 'deny["x"] := true if input.tool.name == "x"\n',
    "old syntax": 'deny[{"code": "x"}] { input.tool.name == "x" }\n',
    "a body without if": 'deny contains {"code": "x"} { endswith(input.tool.name, "_delete") }\n',
    "rego.v1": HEAD.replace("rego.v2", "rego.v1").replace("{name}", "bad")
    + 'deny contains {"code": "x"} if input.tool.name == "x"\n',
    "another package": HEAD.replace("{name}", "good") + 'deny contains {"code": "x"} if input.tool.name == "x"\n',
    "fetching": 'deny contains {"code": "x"} if http.send({"method": "get", "url": input.tool.name}).status_code == 200\n',
    "another policy's data": 'deny contains {"code": "x"} if data.sidegate.policies.grants.allow\n',
    "a shadowed input": 'deny contains {"code": "x"} if {\n\tinput := {"a": 1}\n\tinput.a == 1\n}\n',
    "an unused value": 'deny contains {"code": "x"} if {\n\tname := input.tool.name\n}\n',
    "no JSON of Rego": "this is no rego\n",
    "input in a denial's head": 'deny contains {"code": input.tool.name} if input.tool.name == "x"\n',
}


@pytest.mark.parametrize("kind", F07)
async def test_f07_a_policy_that_does_not_say_what_it_seems_to(prepared: Rig, kind: str) -> None:
    """Refused by `check`, with file and line, and by the running sidecar, which keeps the policy before it."""
    bring(prepared, {"bad": F07[kind]})
    code, said = checked(prepared)
    assert code == 64, said
    assert "bad.rego:" in said


async def test_f07_a_bad_policy_is_not_taken_over(running: Rig) -> None:
    """The reload is refused and said so, and calls go on under the policy before."""
    handle = await running.register("f07")
    before = running.policy["policies"].copy()
    bring(running, {"bad": F07["allow by default"]})
    running.policy["policies"] = before | {"bad": "enforce"}
    running.put_file("policy.yaml", yaml.safe_dump(running.policy))
    await running.until_true(lambda: "was not taken over" in running.log(), "the reload is refused")
    assert (await running.call(handle, "get_stock"))[0] == 200
    assert (await running.call(handle, "get_stock", {"sku": 1}))[0] == 400


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"currency": "RUB", "amount": 1}, "denied"),
        ({"Currency": "RUB", "amount": 1}, "invalid_arguments"),
        ({"amount": 1}, "invalid_arguments"),
        ({"currency": ["RUB"], "amount": 1}, "invalid_arguments"),
        ({"currency": None, "amount": 1}, "invalid_arguments"),
        ({"currency": "EUR", "Currency": "RUB", "amount": 1}, "invalid_json"),
    ],
    ids=str,
)
async def test_f08_a_rule_over_one_argument_cannot_be_walked_around(shared: Rig, given: Any, code: str) -> None:
    """In other case, missing, as a list, null, or twice: the schema stands before the rule. (Other content types: C040.)"""
    handle = await shared.register("f08")
    await refused(shared, handle, native("pay", given), code)


async def test_f09_a_list_of_reasons_is_read(shared: Rig) -> None:
    """All of them, up to a bound that keeps answers and records small."""
    handle = await shared.register("f09")
    refusal = await refused(shared, handle, native("talk", {"text": 20}), "denied")
    assert {r["code"] for r in refusal["reasons"]} == {f"reason_{n}" for n in range(1, 21)}
    record = await shared.ended(refusal["call_id"])
    assert len(record["decision"]["reasons"]) >= 20


@pytest.mark.parametrize(
    ("name", "number"), [("talk", 300), ("talk", 5000), ("talk_long", 2001), ("talk_long", 100_000)]
)
async def test_f09_too_many_or_too_long_reasons_fail_closed(shared: Rig, name: str, number: int) -> None:
    """Over the bounds there is no decision."""
    handle = await shared.register("f09m")
    refusal = await refused(shared, handle, native(name, {"text": number}), "policy_invalid", "policy_unavailable")
    assert len(json.dumps(refusal)) < 2000
