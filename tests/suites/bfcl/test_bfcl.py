"""The suite in a bounded form, and the parts of it that could make it pass for the wrong reason."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.schemas import SchemaError, compile_schema
from tests.e2e.rig import rig
from tests.suites.bfcl.calls import Call, chosen, write
from tests.suites.bfcl.data import Function, Reference, Token, environments, references, wheel
from tests.suites.bfcl.judge import exceptions
from tests.suites.bfcl.mutants import KINDS, mutants
from tests.suites.bfcl.report import WHOLE, Outcome, as_json, as_markdown
from tests.suites.bfcl.run import REPORT, run
from tests.suites.bfcl.schemas import UntranslatableError, tool_names, translate
from tests.suites.bfcl.shapes import SHAPES, sent
from tests.suites.bfcl.world import entry, furnish

LIMIT = 150


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """A run over a spread of the reference calls. It fails, rather than being skipped, where the data set cannot be had."""
    return run(LIMIT)


@pytest.fixture(scope="module")
def archive() -> Iterator[zipfile.ZipFile]:
    """The data set."""
    with zipfile.ZipFile(wheel()) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestThroughTheRunningProxy:
    def test_reference_calls_are_accepted_but_for_listed_errors_of_the_data_set(self, outcome: Outcome) -> None:
        assert outcome.findings.total >= LIMIT
        assert outcome.findings.accepted.total() + len(outcome.findings.exceptions) == outcome.findings.total
        assert (outcome.findings.unexplained, outcome.findings.stale) == ({}, [])

    def test_every_mutant_is_refused_in_every_shape_with_the_fault_named(self, outcome: Outcome) -> None:
        assert all(outcome.findings.mutants[kind] > 0 for kind in KINDS)
        assert outcome.findings.mutants_refused == outcome.findings.mutants
        assert outcome.findings.let_through == []

    def test_the_shapes_agree_on_decision_code_digest_and_message(self, outcome: Outcome) -> None:
        assert outcome.findings.disagreements == []

    def test_the_upstream_gets_the_bytes_that_were_called_for_and_nothing_else(self, outcome: Outcome) -> None:
        assert (outcome.findings.altered, outcome.findings.strays) == ([], [])

    def test_a_model_is_shown_every_tool_with_all_that_its_schema_demands(self, outcome: Outcome) -> None:
        assert outcome.findings.misshown == []

    def test_a_schema_that_no_table_has_mapped_is_set_aside_and_the_others_work(self, outcome: Outcome) -> None:
        assert outcome.unmapped == "tool_quarantined"

    def test_the_journal_of_the_run_verifies(self, outcome: Outcome) -> None:
        assert outcome.journal_whole

    def test_the_report_says_what_was_found_in_both_forms(self, outcome: Outcome) -> None:
        document = as_json(outcome)
        assert document["passed"] is outcome.passed is True
        assert f"{document['total']['accepted']} of {document['total']['calls']} reference calls" in as_markdown(
            outcome
        )


def test_the_committed_report_is_of_a_whole_run_that_met_its_targets() -> None:
    text = REPORT.read_text()
    assert f"of {WHOLE} reference calls accepted" in text
    assert "all targets met" in text


@pytest.mark.slow
def test_every_listed_exception_is_a_call_of_the_data_set(archive: zipfile.ZipFile) -> None:
    ids = [reference.id for reference in references(archive)]
    assert len(ids) == len(set(ids)) == WHOLE
    assert exceptions().keys() <= set(ids)


@pytest.mark.slow
def test_f03_the_environments_compile_after_the_table_and_none_before_it(archive: zipfile.ZipFile) -> None:
    """Type `dict` is no JSON Schema: as published each is refused; mapped, none passes just anything."""
    listed = [function for _, functions in environments(archive) for function in functions]
    assert len(listed) > 100
    for function in listed:
        with pytest.raises(SchemaError):
            compile_schema(dict(function.parameters))
        compiled = compile_schema(translate(function.parameters))
        assert compiled.problems([]) != [], function.name


@pytest.mark.slow
async def test_f03_a_login_tool_of_an_environment_takes_its_password_and_no_record_does(
    archive: zipfile.ZipFile, tmp_path: Path
) -> None:
    """posting_api.json: all its tools load, and the one argument that is a secret is declared so and masked."""
    functions = dict(environments(archive))["posting_api.json"]
    assert len(functions) == 14
    login = next(function for function in functions if "password" in function.parameters["properties"])
    arguments = {"username": "ada", "password": "correct horse battery"}
    async with rig(tmp_path) as sidecar:
        furnish(sidecar, [(f.name, f, translate(f.parameters)) for f in functions if f is not login])
        secret = {"arguments": {"password": {"role": "secret"}}}
        sidecar.catalog["tools"].append(entry(login.name, login, translate(login.parameters)) | secret)
        await sidecar.start()
        status, answer = await sidecar.call(await sidecar.register("c1"), login.name, arguments)
        assert (status, json.loads(answer["result"]["body"])) == (200, arguments)
        await sidecar.stop()
        assert sidecar.records(kind="intent")[0]["arguments"]["username"] == "ada"
        assert "correct horse" not in json.dumps(sidecar.records()) + sidecar.log()


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "dict", "properties": {"a": {"type": ""}}}, "/a: no row for type ''"),
        ({"type": "dict", "properties": {"a": {"description": "anything?"}}}, "/a: no row for type None"),
        ({"type": "dict", "properties": {"a": {"type": ["string", "float"]}}}, "/a: no row for type"),
        (
            {"type": "dict", "properties": {"a": {"type": "array", "items": {"type": "Float"}}}},
            "/a/[]: no row for type",
        ),
        ({"type": "dict", "properties": {"a": {"type": "string", "allowed": ["x"]}}}, "/a: unknown keyword 'allowed'"),
        ({"type": "dict", "properties": {"a": {"type": "long", "maximum": 5}}}, "/a: maximum is said twice"),
        ({"type": "dict", "properties": ["a"]}, "/: unknown keyword 'properties'"),
        ("dict", "/: not a schema"),
    ],
)
def test_what_the_table_cannot_express_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(UntranslatableError, match=why.replace("[", r"\[")):
        translate(schema)


def test_the_table_keeps_what_a_schema_demands() -> None:
    published = {
        "type": "dict",
        "properties": {
            "x": {"type": "float", "description": "x", "default": 1.5, "optional": True},
            "at": {"type": "tuple", "items": {"type": "integer"}, "minItems": 2},
            "more": {"type": "HashMap", "properties": {"a": {"type": "any"}}, "required": ["a"]},
        },
        "required": ["x"],
    }
    translated = translate(published)
    assert translated["properties"]["x"] == {"type": "number", "description": "x", "default": 1.5}
    assert translated["properties"]["at"] == {"type": "array", "items": {"type": "integer"}, "minItems": 2}
    assert translated["properties"]["more"]["required"] == ["a"]
    assert (translated["type"], translated["required"]) == ("object", ["x"])


def test_names_are_mapped_by_one_rule_and_kept_apart() -> None:
    names = ["a.b", "a_b", "A.B", "ü" * 70, "_" * 64]
    functions = [Function(name=name, description="", parameters={"n": n}) for n, name in enumerate(names)]
    assert list(tool_names(functions).values()) == ["a_b", "a_b-2", "A_B-3", "_" * 64, "_" * 62 + "-2"]


def test_the_first_acceptable_value_is_taken_and_what_may_be_left_out_is_left_out() -> None:
    inner = {"type": "dict", "properties": {"p": {"type": "string"}, "q": {"type": "string"}}, "required": ["q"]}
    parameters = {"type": "dict", "properties": {"o": inner, "l": {"type": "array", "items": inner}}, "required": ["r"]}
    answer = {
        "b": [Token("5.0"), Token("5")],
        "left": ["", "x"],
        "r": ["", "x"],
        "o": [{"p": ["", "x"], "q": ["", "x"]}],
        "l": [[{"p": ["1"], "q": ["2"]}]],
        "none": [],
    }
    reference = Reference(
        id="r.0",
        entry="r",
        category="simple_python",
        function=Function(name="f", description="", parameters=parameters),
        answer=answer,
    )
    assert write(chosen(reference)) == '{"b":5.0,"r":"","o":{"q":""},"l":[{"p":"1","q":"2"}],"none":[]}'


def test_one_shape_sends_its_keys_backwards_at_every_level() -> None:
    call = Call(id="c", tool="t", arguments={"a": [{"b": Token("1.0"), "c": "x"}], "d": None})
    assert {shape: write(sent(shape, call)) for shape in SHAPES} == {
        **dict.fromkeys(SHAPES, '{"a":[{"b":1.0,"c":"x"}],"d":null}'),
        "anthropic": '{"d":null,"a":[{"c":"x","b":1.0}]}',
    }


def test_a_call_is_broken_in_each_way_and_in_one_place_at_a_time() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"]},
            "at": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            "free": {"type": "object"},
            "whatever": {"type": ["null", "string"]},
        },
        "required": ["kind"],
    }
    call = {"kind": "a", "at": {"x": Token("1")}, "free": {"z": Token("2")}, "whatever": "w"}
    made = [(m.kind, m.names, write(m.arguments)) for m in mutants(call, schema)]
    rest = '"free":{"z":2},"whatever":"w"}'
    assert made == [
        ("unknown argument", "no_such_argument", f'{{"kind":"a","at":{{"x":1}},{rest[:-1]},"no_such_argument":"x"}}'),
        ("missing required", "kind", f'{{"at":{{"x":1}},{rest}'),
        ("wrong type", "/kind", f'{{"kind":7,"at":{{"x":1}},{rest}'),
        ("outside enum", "/kind", f'{{"kind":"none of these","at":{{"x":1}},{rest}'),
        ("wrong type", "/at", f'{{"kind":"a","at":[],{rest}'),
        ("unknown argument", "no_such_argument", f'{{"kind":"a","at":{{"x":1,"no_such_argument":"x"}},{rest}'),
        ("missing required", "x", f'{{"kind":"a","at":{{}},{rest}'),
        ("wrong type", "/at/x", f'{{"kind":"a","at":{{"x":true}},{rest}'),
        ("wrong type", "/free", '{"kind":"a","at":{"x":1},"free":false,"whatever":"w"}'),
    ]
