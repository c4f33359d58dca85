"""What an upstream answered is a result or it is not."""

import hashlib
import json
from typing import Any

import pytest

from proxy.core.results import MAX_EXCERPT, check_result
from proxy.core.tool import Tool
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Response, Result
from tests.core.sample_catalog import tool

CANARY = "canary-5f1e"
JSON = "application/json"


def result(body: str | bytes, *changes: tuple[str, Any], status: int = 200, media_type: str = JSON) -> Result:
    it: Tool = tool("get_capacity", *changes)
    text = body.encode() if isinstance(body, str) else body
    return check_result(Response(status=status, media_type=media_type, body=text), it, it.versions[0])


def refused(body: str | bytes, *changes: tuple[str, Any], status: int = 200, media_type: str = JSON) -> Refusal:
    with pytest.raises(Refusal) as caught:
        result(body, *changes, status=status, media_type=media_type)
    return caught.value


NO_SCHEMA = ("tools/0/versions/0/result_schema", ...)


def test_bytes_that_are_json_are_passed_on_as_they_came() -> None:
    body = '{ "weekly_capacity": 7,\n "price": 1.10, "big": 9007199254740993, "t": "\\u00e9" }'
    done = result(body)
    assert done.body == body.encode()
    assert (done.size, done.digest) == (len(body), hashlib.sha256(body.encode()).hexdigest())
    assert (done.rows, done.empty) == (None, False)


@pytest.mark.parametrize("media_type", [JSON, "application/problem+json", "application/vnd.supplier.v2+json"])
def test_the_json_family_is_json(media_type: str) -> None:
    assert result("{}", media_type=media_type).body == b"{}"


FACTS: list[tuple[str, int | None, bool]] = [
    ("[]", 0, True),
    ("[1,2,3]", 3, False),
    ("{}", None, True),
    ("null", None, True),
    ('""', None, True),
    ("0", None, False),
    ("false", None, False),
    ('" "', None, False),
    ('{"items":[1,2],"total":2}', 2, False),
    ('{"items":[],"total":0}', 0, True),
    ('{"a":[1],"b":[2]}', None, False),
    ('{"a":{"items":[1]}}', None, False),
]


@pytest.mark.parametrize(("body", "rows", "empty"), FACTS)
def test_rows_and_emptiness_are_facts_about_the_body(body: str, rows: int | None, empty: bool) -> None:
    done = result(body, NO_SCHEMA)
    assert (done.rows, done.empty) == (rows, empty)


LOGIN = "<html><form>canary-5f1e</form></html>"
NOT_RESULTS: list[tuple[str, str | bytes, str, str]] = [
    ("an HTML login page", LOGIN, "text/html", "it came with media type text/html, expected was application/json"),
    ("HTML called JSON", LOGIN, JSON, "the result is not acceptable JSON"),
    ("an empty body", "", JSON, "the body is empty, expected was JSON"),
    ("no media type", "{}", "", "it came with no media type"),
    ("not-a-number", '{"a":NaN}', JSON, "the result is not acceptable JSON"),
    ("infinity", '{"a":1e999}', JSON, "the result is not acceptable JSON"),
    ("a key twice", '{"a":1,"a":2}', JSON, "a key occurs twice"),
    ("two texts", "{}{}", JSON, "the result is not acceptable JSON"),
    ("bad UTF-8", b'"\xff"', JSON, "the result is not acceptable JSON"),
    ("a lone surrogate", '"\\ud800"', JSON, "the result is not acceptable JSON"),
    ("a cut text", '{"a":[1,2', JSON, "the result is not acceptable JSON"),
    ("deep nesting", "[" * 100 + "]" * 100, JSON, "nested deeper than 64 levels"),
    ("text that was not declared", "ok", "text/plain", "it came with media type text/plain"),
]


@pytest.mark.parametrize(("body", "media_type", "said"), [n[1:] for n in NOT_RESULTS], ids=[n[0] for n in NOT_RESULTS])
def test_what_is_no_result_is_an_invalid_result(body: str | bytes, media_type: str, said: str) -> None:
    refusal = refused(body, NO_SCHEMA, media_type=media_type)
    assert refusal.code is Code.INVALID_RESULT
    assert refusal.ran is Ran.YES
    assert said in refusal.message
    assert CANARY not in f"{refusal.message} {refusal.fix}"
    assert refusal.details is not None
    assert "excerpt" in refusal.details


def test_declared_text_becomes_a_json_string() -> None:
    text = ("tools/0/result", {"media_type": "text/plain"})
    done = result('say "hi"\né', text, NO_SCHEMA, media_type="text/plain")
    assert json.loads(done.body) == 'say "hi"\né'
    assert result("", text, NO_SCHEMA, media_type="text/plain").empty
    assert result("{}", text, NO_SCHEMA).body == b"{}"
    assert "not UTF-8" in refused(b"\xff", text, NO_SCHEMA, media_type="text/plain").message


def test_204_without_a_body_is_null_and_must_fit_the_schema() -> None:
    done = result(b"", NO_SCHEMA, status=204, media_type="")
    assert (done.body, done.empty) == (b"null", True)
    assert "must be object, got null" in refused(b"", status=204, media_type="").message


def test_a_result_that_breaks_its_schema_says_what_came_and_what_was_expected() -> None:
    refusal = refused(json.dumps({"weekly_capacity": CANARY}))
    assert refusal.code is Code.INVALID_RESULT
    assert refusal.ran is Ran.YES
    assert refusal.message == (
        "the result of get_capacity cannot be passed on: it is not as its schema says: "
        "/weekly_capacity: must be integer, got string"
    )
    assert refusal.fix == "report it to sourcing-team"
    assert refusal.details is not None
    assert refusal.details["problems"] == [{"at": "/weekly_capacity", "problem": "must be integer, got string"}]


def test_faults_of_a_result_are_capped_in_the_message() -> None:
    schema = ("tools/0/versions/0/result_schema", {"items": {"type": "integer"}})
    refusal = refused(json.dumps(["x"] * 10), schema)
    assert refusal.message.count("must be integer, got string") == 5
    assert refusal.message.endswith("; and 5 more")


def test_a_tool_may_pass_on_what_breaks_its_schema_but_not_what_is_no_json() -> None:
    setting = ("tools/0/result/pass_invalid", True)
    passed = result('{"weekly_capacity":"x"}', setting)
    assert passed.body == b'{"weekly_capacity":"x"}'
    assert passed.problems == ("/weekly_capacity: must be integer, got string",)
    assert refused("{", setting).code is Code.INVALID_RESULT


def test_a_result_over_the_limit_says_both_sizes_and_how_to_ask_for_less() -> None:
    assert result('"' + "x" * 1022 + '"', NO_SCHEMA).size == 1024
    refusal = refused('"' + "x" * 1023 + '"', NO_SCHEMA)
    assert (refusal.code, refusal.ran) == (Code.INVALID_RESULT, Ran.YES)
    assert refusal.message == "the tool get_capacity answered 1025 bytes, and at most 1024 are passed on"
    assert refusal.fix == "ask for less in one call"
    assert refusal.details == {"size": 1025, "limit": 1024}


def test_arguments_that_narrow_a_result_are_named() -> None:
    narrower = [
        ("tools/0/versions/0/arguments_schema/properties/limit", {"type": "integer"}),
        ("tools/0/request/query/limit", "limit"),
    ]
    assert refused("[" + "1," * 600 + "1]", NO_SCHEMA, *narrower).fix == "ask for less in one call (narrow it by limit)"


# (status, class, whether it ran, whether to retry when the tool is idempotent, and when it is not)
STATUSES: list[tuple[int, str, Ran, Retry, Retry]] = [
    (302, "redirect", Ran.YES, Retry.NEVER, Retry.NEVER),
    (400, "client error", Ran.YES, Retry.NEVER, Retry.NEVER),
    (404, "client error", Ran.YES, Retry.NEVER, Retry.NEVER),
    (429, "client error", Ran.YES, Retry.LATER, Retry.LATER),
    (500, "server error", Ran.UNKNOWN, Retry.LATER, Retry.NEVER),
    (501, "server error", Ran.UNKNOWN, Retry.NEVER, Retry.NEVER),
    (503, "server error", Ran.UNKNOWN, Retry.LATER, Retry.NEVER),
    (103, "no final answer", Ran.YES, Retry.NEVER, Retry.NEVER),
]


@pytest.mark.parametrize(("status", "kind", "ran", "idempotent", "not_idempotent"), STATUSES)
def test_another_status_than_2xx_is_a_failure_named_by_status_alone(
    status: int, kind: str, ran: Ran, idempotent: Retry, not_idempotent: Retry
) -> None:
    body = CANARY + "x" * 5000
    refusal = refused(body, status=status)
    assert refusal.code is Code.TOOL_FAILED
    assert refusal.message == f"the tool get_capacity answered with status {status} ({kind})"
    assert CANARY not in f"{refusal.message} {refusal.fix}"
    assert refusal.details == {"status": status, "class": kind, "excerpt": body[:MAX_EXCERPT]}
    assert (refusal.ran, refusal.retry) == (ran, idempotent)
    assert refused(body, ("tools/0/idempotent", False), status=status).retry == not_idempotent


def test_a_200_with_a_failure_inside_is_a_failure_that_ran() -> None:
    refusal = refused(json.dumps({"ok": False, "error": CANARY}))
    assert (refusal.code, refusal.ran, refusal.retry) == (Code.TOOL_FAILED, Ran.YES, Retry.NEVER)
    assert refusal.message == "the tool get_capacity answered that it failed ('ok' says so)"
    assert CANARY in str(refusal.details)


FAILURES: list[tuple[str, Any, str, bool]] = [
    ("ok", False, '{"ok":true}', False),
    ("ok", False, "{}", False),
    ("ok", False, '{"ok":0}', False),
    ("ok", False, '{"ok":null}', False),
    ("ok", None, "{}", False),
    ("ok", None, '{"ok":null}', True),
    ("code", 1, '{"code":true}', False),
    ("code", 1, '{"code":1.0}', True),
    ("status.kind", "error", '{"status":{"kind":"error"}}', True),
    ("$.status.kind", "error", '{"status":{"kind":"error"}}', True),
    ("status.kind", "error", '{"status":"error"}', False),
    ("$", [], "[]", True),
    ("ok", False, "[false]", False),
]


@pytest.mark.parametrize(("path", "equals", "body", "failed"), FAILURES)
def test_failure_is_told_by_json_equality_at_a_path(path: str, equals: Any, body: str, failed: bool) -> None:
    when = ("tools/0/result/failure_when", {"path": path, "equals": equals})
    if failed:
        assert refused(body, NO_SCHEMA, when).code is Code.TOOL_FAILED
    else:
        assert result(body, NO_SCHEMA, when).body == body.encode()


def test_the_declared_failure_is_seen_before_the_schema() -> None:
    assert refused('{"ok":false,"weekly_capacity":"none"}').code is Code.TOOL_FAILED
