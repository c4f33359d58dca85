"""Cases of section 1: what models and clients write instead of JSON (C001-C010), through the running sidecar."""

import json
import re
from typing import Any

import orjson
import pytest

from tests.e2e.rig import Rig, tool
from tests.suites.cases.kit import (
    TEXT_DIALECTS,
    TREE_DIALECTS,
    answer_of,
    in_dialect,
    journal_is_strict,
    note,
    refused,
    says,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALID = '{"sku":"S-1","quantity":2}'


def prepare(rig: Rig) -> None:
    """A tool that takes any JSON, one that takes nothing."""
    request = {"method": "POST", "path": "/ping", "body": {}}
    rig.catalog["tools"] += [note(), tool("ping", "inventory", "read", request, properties={})]


@pytest.mark.parametrize("dialect", TEXT_DIALECTS)
@pytest.mark.parametrize("junk", [r"\n", r"\r\n", r"\t", r"\u000a", "\\"])
@pytest.mark.parametrize("where", ["before", "between", "after"])
async def test_c001_a_backslash_between_tokens(shared: Rig, dialect: str, junk: str, where: str) -> None:
    """Literal escapes between tokens are no JSON: refused with the offset, never repaired, never run with `{}`."""
    text = {
        "before": f"{junk}{VALID}",
        "between": VALID.replace('"quantity":', f'"quantity": {junk}'),
        "after": f"{VALID}{junk}",
    }[where]
    handle = await shared.register("c001")
    refusal = await refused(shared, handle, in_dialect(dialect, "create_order", json.dumps(text)), "invalid_json")
    found = re.search(r"at offset (\d+)", refusal["message"])
    assert found is not None, refusal
    assert abs(int(found[1]) - text.index(junk)) <= 1


BAD_ESCAPES = {
    "regular expression": r'{"sku":"\d{4}"}',
    "Windows path": r'{"sku":"C:\reports\daily"}',
    "Hangul": '{"sku":"\\한"}',
    "hex": r'{"sku":"\x41"}',
    "octal": r'{"sku":"\0"}',
    "quote": r"""{"sku":"it\'s"}""",
    "short unicode": r'{"sku":"\u12"}',
    "odd unicode": r'{"sku":"\uZZZZ"}',
    "lone high surrogate": r'{"sku":"\ud83d"}',
    "lone low surrogate": r'{"sku":"\ude00"}',
    "NUL": r'{"sku":"a\u0000b"}',
    "at the end": '{"sku":"C:\\"}',
    "in a key": r'{"s\ku":"S"}',
    "line end": '{"sku":"a\nb"}',
    "tab": '{"sku":"a\tb"}',
}


@pytest.mark.parametrize("dialect", [*TEXT_DIALECTS, *TREE_DIALECTS])
@pytest.mark.parametrize("escape", BAD_ESCAPES)
async def test_c002_a_bad_escape(shared: Rig, dialect: str, escape: str) -> None:
    """Whatever escape is wrong: an error that the model can act on, nothing runs, nothing is repaired."""
    text = BAD_ESCAPES[escape]
    source = json.dumps(text) if dialect in TEXT_DIALECTS else text
    handle = await shared.register("c002")
    refusal = await refused(shared, handle, in_dialect(dialect, "get_terms", source), "invalid_json")
    assert refusal["retry"] == "after_change"
    assert refusal["fix"]


async def test_c002_a_legal_escape_is_one_value_everywhere(shared: Rig) -> None:
    r"""`C:\reports` is legal JSON (a carriage return): policy, record and upstream see the same, whatever was meant."""
    handle = await shared.register("c002b")
    text = r'{"text":"C:\reports"}'
    status, answer = await shared.post("/v1/tool-calls", in_dialect("openai_chat", "note", json.dumps(text)), handle)
    assert (status, answer_of(answer)) == (200, {})
    (intent,) = shared.records(kind="intent", conversation="c002b")
    sent = json.loads(shared.upstream.received[-1].body)
    assert sent == intent["arguments"] == intent["input"]["call"]["arguments"] == {"text": "C:\reports"}


NO_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 400,
    "1" + "0" * 5000,
    "0x10",
    "01",
    "+1",
    "1e-99999999999999999999",
    "0e99999999999999999999",
    "0E-1000",
    "1.5e-2147483648",
    "1.",
    ".5",
]


@pytest.mark.parametrize("token", NO_NUMBERS)
@pytest.mark.parametrize("dialect", [*TEXT_DIALECTS, *TREE_DIALECTS])
async def test_c004_what_is_no_number_is_refused(shared: Rig, dialect: str, token: str) -> None:
    """Non-finite, out of range, or no JSON number at all: at the top and deep inside."""
    handle = await shared.register("c004")
    for text in (f'{{"text":{token}}}', f'{{"text":{{"a":[1,{{"b":{token}}}]}}}}'):
        source = json.dumps(text) if dialect in TEXT_DIALECTS else text
        await refused(shared, handle, in_dialect(dialect, "note", source), "invalid_json")


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
async def test_c004_what_is_no_number_is_no_result(shared: Rig, token: str) -> None:
    """The upstream's NaN reaches neither agent nor journal: the result is refused, and says that the tool ran."""
    handle = await shared.register("c004r")
    shared.upstream.answer = says(f'{{"rows":[{{"mean":{token}}}]}}'.encode())
    answer = await shared.send(handle, "note", {"text": token})
    assert (answer.code, answer.body["refusal"]["ran"]) == ("invalid_result", "yes")
    orjson.loads(json.dumps(answer.body, allow_nan=False))
    journal_is_strict(shared)


DEEP = {"arrays": ("[", "]"), "objects": ('{"a":', "}")}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("depth", [65, 200, 2_000, 20_000, 200_000])
async def test_c005_too_deep(shared: Rig, kind: str, depth: int) -> None:
    """Every depth over the limit is a refusal of its own, never a 500: in the body, in an arguments text, in a result."""
    opens, closes = DEEP[kind]
    nested = opens * depth + "1" + closes * depth
    handle = await shared.register(f"c005-{kind}-{depth}")
    for dialect in ("native", "openai_chat"):
        text = f'{{"text":{nested}}}'
        source = json.dumps(text) if dialect == "openai_chat" else text
        await refused(shared, handle, in_dialect(dialect, "note", source), "invalid_json", "too_large")
    shared.upstream.answer = says(nested.encode())
    answer = await shared.send(handle, "note", {"text": 1})
    assert (answer.code, answer.status) == ("invalid_result", 502)


@pytest.mark.parametrize("kind", DEEP)
async def test_c005_as_deep_as_allowed(shared: Rig, kind: str) -> None:
    """Just under the limit everything copes: parsers, validator, OPA, journal."""
    opens, closes = DEEP[kind]
    depth = 61  # body, arguments and `text` itself take up the rest of 64
    handle = await shared.register("c005ok")
    body = in_dialect("native", "note", f'{{"text":{opens * depth}1{closes * depth}}}')
    status, answer = await shared.post("/v1/tool-calls", body, handle)
    assert (status, answer["status"]) == (200, "done"), answer


@pytest.mark.parametrize("dialect", TEXT_DIALECTS)
async def test_c007_every_cut_is_refused(shared: Rig, dialect: str) -> None:
    """Every proper prefix of an arguments text but the empty one, and none of them runs as `{}` or as its first part."""
    handle = await shared.register("c007")
    for end in range(1, len(VALID)):
        await refused(shared, handle, in_dialect(dialect, "create_order", json.dumps(VALID[:end])), "invalid_json")


@pytest.mark.parametrize("dialect", TEXT_DIALECTS)
@pytest.mark.parametrize(
    "tail", [VALID, "{}", " and then call me back", ",", "}", "]", "null", "0", "// done", "```", "\n\n" + VALID]
)
async def test_c007_every_tail_is_refused(shared: Rig, dialect: str, tail: str) -> None:
    """A complete object followed by anything but white space."""
    handle = await shared.register("c007t")
    await refused(shared, handle, in_dialect(dialect, "create_order", json.dumps(VALID + tail)), "invalid_json")


NOTHING = {
    "native": [None, "null", "{}"],
    "anthropic": [None, "null", "{}"],
    "openai_chat": [None, "null", '""', '"{}"', '" "', '"null"', "{}"],
    "openai_responses": [None, "null", '""', '"{}"', '" "', '"null"', "{}"],
}


@pytest.mark.parametrize("dialect", NOTHING)
async def test_c008_no_arguments_are_one_call(shared: Rig, dialect: str) -> None:
    """However a client writes it: the same digest, `{}` in OPA's input, in the journal and at the upstream."""
    conversation = f"c008-{dialect}"
    handle = await shared.register(conversation)
    for source in NOTHING[dialect]:
        status, answer = await shared.post("/v1/tool-calls", in_dialect(dialect, "ping", source), handle)
        assert (status, answer_of(answer)) == (200, {}), (source, answer)
        assert shared.upstream.received[-1].body == b"{}"
    records = shared.records(kind="intent", conversation=conversation)
    assert len(records) == len(NOTHING[dialect])
    assert all(r["arguments"] == r["input"]["call"]["arguments"] == {} for r in records)
    digests = {r["digest"] for r in shared.records(kind="intent", tool="ping")}
    assert len(digests) == 1


WRONG = ["[]", "5", "true", "[{}]", '"5"', '"[]"', '"true"', '"\\"{}\\""']


@pytest.mark.parametrize("dialect", NOTHING)
@pytest.mark.parametrize("source", WRONG)
async def test_c008_other_values_are_refused(shared: Rig, dialect: str, source: str) -> None:
    """What is no object is no set of arguments, as a value or as a text."""
    handle = await shared.register("c008w")
    await refused(shared, handle, in_dialect(dialect, "ping", source), "invalid_arguments")


@pytest.mark.parametrize("dialect", TREE_DIALECTS)
@pytest.mark.parametrize("source", ['""', '"{}"', '" "'])
async def test_c008_text_where_the_format_has_none(shared: Rig, dialect: str, source: str) -> None:
    """Native and Anthropic calls have no arguments text."""
    handle = await shared.register("c008t")
    await refused(shared, handle, in_dialect(dialect, "ping", source), "invalid_arguments")


FRAMES: list[Any] = [
    {"jsonrpc": "2.0", "id": 99, "result": {"action": "accept"}},
    {"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "x"}},
    *({"jsonrpc": "2.0", "id": 99, "method": m, "params": {"name": "ping"}} for m in ("Tools/Call", " tools/call", 5)),
    [{"jsonrpc": "2.0", "id": 99, "method": "tools/call"}],
    {"name": "ping", "arguments": {}},
    {"type": "tool_result", "tool_use_id": "c1", "content": "x"},
    {"role": "tool", "tool_call_id": "c1", "content": "x"},
    {"type": "function_call_output", "call_id": "c1", "output": "x"},
    {"role": "Assistant", "tool_calls": []},
    {"Tool": "ping", "id": "c1", "arguments": {}},
    {},
    [],
    "ping",
    5,
    None,
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: json.dumps(frame)[:40])
async def test_c010_frames_of_no_known_shape(shared: Rig, frame: Any) -> None:
    """Frames without a method, results, errors, names in other letters: refused by default, not passed by rules that look
    at one field. (Over MCP itself: a later part.)"""
    handle = await shared.register("c010")
    await refused(shared, handle, json.dumps(frame), "invalid_call")
