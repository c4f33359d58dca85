"""`sidegate policy can`: a question about a call that nobody has made."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import pytest

from proxy.adapters.workshop import Workshop
from proxy.cli.main import build_parser
from proxy.cli.policy_can import _call, _document
from proxy.core.tool import CheckedCall
from proxy.settings import read
from tests.cli.command import REPO, Done, inside

CATALOG = """
upstreams: {api: {http: {base_url: "http://127.0.0.1:1"}}}
systems: {crm: {audience: internal}}
tools:
  - {name: get, system: crm, effect: read, upstream: api, risk: low, request: {method: GET, path: "/{id}"},
     versions: [{version: "1", arguments_schema: {type: object, properties: {id: {type: string}}, required: [id]}}]}
  - {name: put, system: crm, effect: write, upstream: api, risk: low, request: {method: POST, path: "/{id}"},
     versions: [{version: "1", arguments_schema: {type: object, properties: {id: {type: string}}, required: [id]}}]}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sidegate init` makes, with a system in which everybody may read, and write with a person's yes."""
    made = tmp_path_factory.mktemp("can")
    assert inside("init", made, "--preset", "guarded-writes").code == 0
    (made / "catalog" / "crm.yaml").write_text(CATALOG)
    policy = made / "policy.yaml"
    text = policy.read_text()
    assert "    desktop: {" in text
    policy.write_text(text.replace("    desktop: {", "    crm: {read: {user: {}}, write: {user: {}}}\n    desktop: {"))
    return made


def can(directory: Path, *words: str) -> Done:
    return inside("policy", "can", "--settings", directory / "sidegate.yaml", *words)


def test_allowed_held_and_denied_are_told_by_rule(directory: Path) -> None:
    allowed = can(directory, "--role", "user", "get")
    assert allowed.code == 0
    assert "grants.systems.crm.read.user matched" in allowed.out
    held = can(directory, "--role", "user", "put", "--json")
    told = json.loads(held.out)
    assert (held.code, told["effect"]) == (1, "review")
    assert "review.effects.write" in told["reasons"][0]["settings"][0]
    denied = can(directory, "get")
    assert denied.code == 1
    assert "grants.systems.crm.read names user; the principal has unknown" in denied.out
    assert "would be allowed: with the role user, too" in denied.out


def test_wrong_questions_are_sentences(directory: Path) -> None:
    for words, says in (
        (("nope",), "there is no tool nope"),
        (("get", "--arguments", "[1"), "--arguments is not acceptable JSON"),
        (("get", "--arguments", "[1]"), "a JSON object is wanted"),
        (("get", "--after", "nope"), "there is no tool nope"),
    ):
        done = can(directory, *words)
        assert done.code == 64
        assert says in done.err


def test_policies_are_asked_about_an_input_as_the_sidecar_sends_it(directory: Path) -> None:
    """As the schema has it that policies are checked against; a tool that was used before has left its marks."""
    args = build_parser().parse_args(["policy", "can", "get", "--arguments", '{"id": 1.10}'])
    tools = Workshop(read(directory / "sidegate.yaml")).catalog().tools
    call, version = _call(args), tools["get"].versions[0]
    checked = CheckedCall(tool=tools["get"], version=version, asked="1", arguments=call.arguments, digest="0" * 64)
    document = _document(call, checked, ["user"], {"pod": "p"}, [tools["put"], tools["put"]], datetime.now(UTC))
    assert b'"arguments":{"id":1.10}' in document
    schema = json.loads((REPO / "rego" / "schemas" / "input.json").read_bytes())
    jsonschema_rs.Draft7Validator(schema).validate(json.loads(document))
    conversation = json.loads(document)["conversation"]
    assert conversation["marks"] == {"system:crm": 1, "effect:write": 1}
    assert conversation["tools"] == {"put": {"ok": 2, "started": 2}}
    assert [(each["seq"], each["outcome"]) for each in conversation["calls"]] == [(1, "done"), (2, "done")]
    assert (conversation["untrusted_read"], conversation["history"]) == (True, "complete")


def test_arguments_are_checked_as_the_sidecar_checks_them(directory: Path) -> None:
    """A refusal there is what would happen; without any, it is said that none were checked."""
    done = can(directory, "--role", "user", "get", "--arguments", '{"id": 7, "x": 1}')
    assert done.code == 1
    assert done.out.startswith(
        "refused before policy is asked: invalid_arguments: the arguments of get (version 1) are not"
    )
    for said in ("/id", "x"):
        assert said in done.out
    refused = json.loads(can(directory, "get", "--arguments", "{}", "--json").out)
    assert refused["refused"].startswith("invalid_arguments")
    assert "effect" not in refused
    assert can(directory, "--role", "user", "get", "--arguments", '{"id": "7"}').code == 0
    assert "no arguments were given, so none were checked" in can(directory, "--role", "user", "get").out


def test_what_was_used_before_counts_and_what_is_assumed_is_said(directory: Path) -> None:
    """A rule about what may not meet."""
    first = can(directory, "--role", "user", "get", "--arguments", '{"id": "7"}')
    assert first.out.splitlines()[-1] == (
        "  assumed    a registered conversation without earlier calls (--after TOOL names some), nobody's yes, now"
    )
    changed = directory / "meeting.yaml"
    text = (directory / "policy.yaml").read_text()
    rule = '[{name: meet, marks: ["effect:read", "effect:write"], then: deny, message: not together}]'
    assert "combination: []" in text
    changed.write_text(text.replace("combination: []", f"combination: {rule}"))
    words = ("--role", "user", "get", "--arguments", '{"id": "7"}', "--policy", str(changed))
    assert can(directory, *words).code == 0
    after = can(directory, *words, "--after", "put")
    assert after.code == 1
    assert "combination.meet" in after.out
    assert "in which put went well before" in after.out


def test_a_call_that_nothing_grants_says_what_would_grant_it(directory: Path) -> None:
    """To who edits the policy: the file and the key."""
    done = can(directory, "--role", "clerk", "get")
    policy = directory / "policy.yaml"
    assert (
        f"fix      if it should be allowed, in {policy}: grants.systems.crm.read.clerk: {{}}, or for this tool"
        in done.out
    )
    granted = directory / "granted.yaml"
    granted.write_text(policy.read_text().replace("crm: {read: {user: {}}", "crm: {read: {user: {}, clerk: {}}"))
    assert can(directory, "--role", "clerk", "get", "--policy", str(granted)).code == 0
    assert "call with the handle of a registered conversation" in can(directory, "get").out
