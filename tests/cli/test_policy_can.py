"""`sidegate policy can`: a question about a call that nobody has made."""

import json
from pathlib import Path

import jsonschema_rs
import pytest

from proxy.adapters.workshop import Workshop
from proxy.cli.main import build_parser
from proxy.cli.policy_can import _document
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
    ):
        done = can(directory, *words)
        assert done.code == 64
        assert says in done.err


def test_policies_are_asked_about_an_input_as_the_sidecar_sends_it(directory: Path) -> None:
    """As the schema has it that policies are checked against."""
    args = build_parser().parse_args(["policy", "can", "get", "--arguments", '{"id": 1.10}'])
    tool = Workshop(read(directory / "sidegate.yaml")).catalog().tools["get"]
    document = _document(args, tool, {"pod": "p"})
    assert b'"arguments":{"id":1.10}' in document
    schema = json.loads((REPO / "rego" / "schemas" / "input.json").read_bytes())
    jsonschema_rs.Draft7Validator(schema).validate(json.loads(document))
