"""Cases of section 6: schemas and arguments (C044-C053), through the running sidecar."""

import json
from typing import Any

import pytest

from proxy.core.schema_shape import close_schema
from tests.e2e.rig import Rig, native, tool
from tests.suites.cases.kit import answer_of, in_dialect, note, post, refused, says

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = {"limit": "limit", "id": "id", "dry_run": "dry_run", "tags": "tags"}
STRICT = {
    "limit": {"type": "integer", "maximum": 1000},
    "id": {"type": "string"},
    "dry_run": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
}
ODD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Größe, 한글, \u202e",
    "x-vendor": {"keep": [1, 1.5, None]},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}}}},
    "properties": {"text": {"$ref": "#/$defs/node", "description": "line\nend <b>", "x-order": 3}},
}
NUMBERS = {
    "tenths": {"multipleOf": 0.1},
    "cents": {"multipleOf": 0.01},
    "halves": {"multipleOf": 0.5},
    "bounded": {"maximum": 1e308},
    "whole": {"type": "integer"},
}
RESULT = {
    "type": "object",
    "properties": {"at": {"type": "string", "format": "date-time"}, "count": {"type": "integer"}},
    "required": ["at", "count"],
}


def versions(**schema: Any) -> dict[str, Any]:
    """One version with its result's schema or another schema of arguments."""
    base = {"type": "object", "properties": {"text": {}}}
    return {"versions": [{"version": "1", "arguments_schema": base} | schema]}


def deep(levels: int) -> dict[str, Any]:
    """A schema nested this deep."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


BROKEN = {
    "dangling": {"$ref": "#/$defs/Widget"},
    "elsewhere": {"$ref": "https://example.invalid/widget.json"},
    "other_file": {"$ref": "widget.json#/x"},
    "no_type": {"type": "dict"},
    "bad_pattern": {"type": "string", "pattern": "("},
    "old_dialect": {"$schema": "http://json-schema.org/draft-04/schema#"},
    "bad_keyword": {"minimum": "5"},
}


def prepare(rig: Rig) -> None:
    """Strict arguments, numbers, odd and broken schemas beside good ones."""
    request = {"method": "POST", "path": "/strict", "body": BODY}
    schema = {"type": "object", "properties": STRICT, "required": list(STRICT)}
    rig.catalog["tools"] += [
        tool("strict", "inventory", "read", request, versions=[{"version": "1", "arguments_schema": schema}]),
        note("recursive", versions=[{"version": "1", "arguments_schema": ODD_SCHEMA}], description="a\n<b> é 한글"),
        *(note(name, properties={"text": part}) for name, part in NUMBERS.items()),
        *(
            note(
                f"broken_{name}",
                versions=[{"version": "1", "arguments_schema": {"type": "object", "properties": {"text": part}}}],
            )
            for name, part in BROKEN.items()
        ),
        *(note(f"broken_result_{name}", **versions(result_schema=part)) for name, part in BROKEN.items()),
        note("deep", properties={"text": deep(40)}),
        note("checked", **versions(result_schema=RESULT)),
        note("noted", **versions(result_schema=RESULT), result={"pass_invalid": True}),
        note("free"),
    ]


GOOD = {"limit": 5, "id": "2662", "dry_run": False, "tags": ["a"]}
LOOSE: dict[str, list[Any]] = {
    "/limit": ["5", 5.5, True, None, [5], "five"],
    "/id": [2662, 26.62, True, None, ["2662"], {}],
    "/dry_run": ["false", "true", 0, 1, None, "no", []],
    "/tags": ['["a"]', "a", {"0": "a"}, None, [1], [None], 1],
}


@pytest.mark.parametrize(("where", "value"), [(w, v) for w, values in LOOSE.items() for v in values], ids=json.dumps)
async def test_c044_nothing_is_coerced(shared: Rig, where: str, value: Any) -> None:
    """A value of another type is refused with its place, what was wanted and the type that came; the value is not repeated."""
    handle = await shared.register("c044")
    arguments = GOOD | {where[1:]: value}
    refusal = await refused(shared, handle, native("strict", arguments), "invalid_arguments")
    assert where in refusal["message"]
    assert "must be" in refusal["message"] or "must have" in refusal["message"]
    assert "2662" not in refusal["message"].replace("must be at most", "")


async def test_c044_all_faults_are_named_at_once(shared: Rig) -> None:
    """Four wrong arguments, four places in one sentence; a missing and an unknown one beside them."""
    handle = await shared.register("c044all")
    wrong = {"limit": "5", "id": 2662, "dry_run": "false", "tags": '["a"]'}
    refusal = await refused(shared, handle, native("strict", wrong), "invalid_arguments")
    assert all(where in refusal["message"] for where in LOOSE)
    refusal = await refused(shared, handle, native("strict", {"id": "1", "lmit": 5}), "invalid_arguments")
    assert all(name in refusal["message"] for name in ("limit", "dry_run", "tags", "lmit"))


@pytest.mark.parametrize(
    "source",
    ['{"limit":5.0,"id":"0123","dry_run":false,"tags":[]}', '{"limit":-0,"id":"true","dry_run":true,"tags":["1"]}'],
)
async def test_c044_what_is_right_arrives_as_it_was_written(shared: Rig, source: str) -> None:
    """`5.0` is an integer (JSON Schema 2020-12) and stays `5.0`; `"0123"` and `"true"` stay texts."""
    handle = await shared.register("c044ok")
    status, answer = await post(shared, in_dialect("native", "strict", source), handle)
    assert (status, answer["status"]) == (200, "done"), answer
    assert shared.upstream.received[-1].body.decode() == source


@pytest.mark.parametrize("name", [*BROKEN, *(f"result_{name}" for name in BROKEN)])
async def test_c046_one_broken_schema_sets_aside_one_tool(shared: Rig, name: str) -> None:
    """The others work, the broken one fails closed on call and is not offered, and the model is told whom to ask."""
    handle = await shared.register("c046")
    refusal = await refused(shared, handle, native(f"broken_{name}", {"text": 1}), "tool_quarantined")
    assert "platform-team" in refusal["fix"]
    _, listed = await shared.get("/v1/tools", handle)
    assert f"broken_{name}" not in {entry["name"] for entry in listed}
    assert {"strict", "recursive", "free"} <= {entry["name"] for entry in listed}


async def test_c046_recursion_is_fine(shared: Rig) -> None:
    """A schema that refers to itself checks to any depth."""
    handle = await shared.register("c046r")
    good, bad = {"next": {"next": {"v": 1}}}, {"next": {"next": {"v": "1"}}}
    assert (await shared.call(handle, "recursive", {"text": good}))[0] == 200
    refusal = await refused(shared, handle, native("recursive", {"text": bad}), "invalid_arguments")
    assert "/text/next/next/v" in refusal["message"]


async def test_c005_a_deep_schema_is_usable(shared: Rig) -> None:
    """Nested forty deep it refuses what is not as deep, without falling over. Beyond 64 the file is refused: the next test."""
    handle = await shared.register("c005s")
    await refused(shared, handle, native("deep", {"text": 1}), "invalid_arguments")


@pytest.mark.parametrize("levels", [1_000, 20_000])
async def test_c005_a_schema_of_absurd_depth_does_not_end_the_sidecar(shared: Rig, levels: int) -> None:
    """Reloading a catalog with it: the revision before stays in force, and the log says so."""
    before = shared.log().count("was not taken over")
    opens = "{type: array, items: " * levels
    text = f"tools:\n- {{name: absurd, upstream: api, versions: [{{version: '1', arguments_schema: {opens}{{}}{'}' * levels}}}]}}\n"
    path = shared.folder / "catalog" / f"absurd{levels}.yaml"
    path.write_text(text)
    await shared.until_true(lambda: shared.log().count("was not taken over") > before, "the catalog is refused")
    path.unlink()
    handle = await shared.register(f"c005a{levels}")
    assert (await shared.call(handle, "get_stock"))[0] == 200


async def test_c047_definitions_say_what_the_catalog_says(shared: Rig) -> None:
    """Names, descriptions, vendor keys, references and non-ASCII text come out as they went in; what differs is only that
    unknown arguments are refused, which the definition says too. In every dialect's form."""
    handle = await shared.register("c047")
    keys = {"native": ("arguments",), "openai_chat": ("function", "parameters"), "openai_responses": ("parameters",)}
    for dialect, path in {**keys, "anthropic": ("input_schema",)}.items():
        _, listed = await shared.get(f"/v1/tools?dialect={dialect}", handle)
        (entry,) = [e for e in listed if (e.get("function") or e)["name"] == "recursive"]
        assert (entry.get("function") or entry)["description"] == "a\n<b> é 한글"
        for key in path:
            entry = entry[key]
        assert entry == close_schema(ODD_SCHEMA)
        assert entry["properties"]["text"].items() >= ODD_SCHEMA["properties"]["text"].items()
        assert entry["x-vendor"] == ODD_SCHEMA["x-vendor"]


@pytest.mark.parametrize(
    ("name", "token", "fits"),
    [
        ("tenths", "10.1", True),
        ("tenths", "0.3", True),
        ("tenths", "10.15", False),
        ("cents", "19.99", True),
        ("cents", "19.999", False),
        ("halves", "1e308", True),
        ("halves", "1.25", False),
        ("halves", "9" * 300, True),
        ("bounded", "1e308", True),
        ("bounded", "9" * 308, True),
        ("whole", "9" * 300, True),
        ("whole", "1e300", True),
        ("whole", "1.5e0", False),
        ("whole", "-0.0", True),
    ],
)
async def test_c049_numbers_get_a_yes_or_a_no(shared: Rig, name: str, token: str, fits: bool) -> None:
    """Decimals are judged as decimals, huge values without a server error, and what passes is sent as it was written."""
    handle = await shared.register("c049")
    body = in_dialect("native", name, f'{{"text":{token}}}')
    if fits:
        status, answer = await post(shared, body, handle)
        assert (status, answer["status"]) == (200, "done"), answer
        assert shared.upstream.received[-1].body.decode() == f'{{"text":{token}}}'
    else:
        await refused(shared, handle, body, "invalid_arguments")


@pytest.mark.parametrize(
    "token",
    [
        "12345678901234567890.5",
        "9007199254740993.5",
        "1.00000000000000000001",
        "0.99999999999999999999",
        "1e-400",
        "1E-400",
    ],
)
@pytest.mark.parametrize("dialect", ["native", "openai_chat"])
async def test_c049_a_fraction_that_a_double_loses_is_refused(shared: Rig, dialect: str, token: str) -> None:
    """It would be judged as a whole number (an integer, not above a bound) and sent as what it is."""
    handle = await shared.register("c049f")
    for text in (f'{{"text":{token}}}', f'{{"text":[{{"a":{token}}}]}}'):
        source = json.dumps(text) if dialect == "openai_chat" else text
        await refused(shared, handle, in_dialect(dialect, "free", source), "invalid_arguments")


@pytest.mark.parametrize(
    "token",
    [
        "3.00000000000000000000",
        "12345678901234567890.0",
        "0.1234567890123456789",
        "1.5e-300",
        "1e20",
        "0.0e-999",
        "0e999",
        "0e-5",
    ],
)
async def test_c049_other_long_numbers_pass(shared: Rig, token: str) -> None:
    """Many digits alone are no fault."""
    handle = await shared.register("c049g")
    status, answer = await post(shared, in_dialect("native", "free", f'{{"text":{token}}}'), handle)
    assert (status, answer["status"]) == (200, "done"), answer


RESULTS = {
    "right": b'{"at":"2026-11-24T10:00:00Z","count":3,"more":[1.10]}',
    "a date without a zone": b'{"at":"2026-11-24T10:00:00","count":3}',
    "null for an integer": b'{"at":"2026-11-24T10:00:00Z","count":null}',
    "missing": b'{"at":"2026-11-24T10:00:00Z"}',
    "another type": b'[{"count":3}]',
}


@pytest.mark.parametrize("kind", RESULTS)
async def test_c052_a_result_against_its_schema(shared: Rig, kind: str) -> None:
    """Right ones pass byte by byte. Wrong ones follow the tool's mode: refused by default, passed and noted on request; the
    record names the problem either way. Without a schema everything passes."""
    handle = await shared.register("c052")
    shared.upstream.answer = says(RESULTS[kind])
    answers = {name: await shared.send(handle, name, {"text": kind}) for name in ("checked", "noted", "free")}
    records = {name: await shared.ended(answer.call_id) for name, answer in answers.items()}
    assert answers["free"].body["result"] == answers["noted"].body["result"] == json.loads(RESULTS[kind])
    if kind == "right":
        assert answers["checked"].status == 200
        assert "problems" not in records["noted"]["result"]
    else:
        assert (answers["checked"].code, answers["checked"].body["refusal"]["ran"]) == ("invalid_result", "yes")
        assert records["checked"]["refusal"]["details"]["problems"]
        assert records["noted"]["result"]["problems"]


async def test_c052_bytes_pass_through(shared: Rig) -> None:
    """Number tokens, key order and spacing of a result are not rewritten."""
    handle = await shared.register("c052b")
    body = b'{"z": 1.10, "a": 12345678901234567890.10, "n": [ 1e2 ]}'
    shared.upstream.answer = says(body)
    async with shared.session.post(
        shared.url("agent") + "/v1/tool-calls",
        data=native("free", {"text": 1}),
        headers={"content-type": "application/json", "x-sidegate-conversation": handle},
    ) as response:
        assert body in await response.read()
    _, answer = await post(shared, in_dialect("openai_chat", "free", '"{\\"text\\":1}"'), handle)
    assert answer["content"] == body.decode()
    assert answer_of(answer) == {}
