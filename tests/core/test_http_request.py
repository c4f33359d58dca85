"""From arguments to the request that is sent."""

import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http_request import HttpRequest, build, path
from proxy.core.tool import RequestTemplate, Upstream
from proxy.errors import Code, Ran, Refusal
from tests.contracts.executor import arguments, http_tool

UPSTREAM = Upstream(name="suppliers", kind="http", url="http://suppliers.internal/v2")
GET = RequestTemplate(method="GET", path="/suppliers/{id}/capacity", query={"week": "week", "page[size]": "size"})
POST = RequestTemplate(method="POST", path="/orders", query={"dry": "dry"}, body={"orderId": "id", "line": "line"})


def built(template: RequestTemplate | None, text: bytes) -> HttpRequest:
    return build(http_tool(UPSTREAM, template), arguments(text))


def refused(template: RequestTemplate | None, text: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        built(template, text)
    return caught.value


def test_arguments_go_where_the_template_says() -> None:
    request = built(GET, b'{"week": "2026-W48", "id": "ACME", "size": 5}')
    assert request == HttpRequest(method="GET", target="/suppliers/ACME/capacity?week=2026-W48&page%5Bsize%5D=5")


def test_a_body_keeps_number_tokens_strings_and_the_order_of_nested_keys() -> None:
    text = '{"id": 9007199254740993, "line": {"b": 1.10, "a": [1E5, -0, "\u00e9\\u0041/"], "n": null}}'.encode()
    request = built(POST, text)
    body = '{"orderId":9007199254740993,"line":{"b":1.10,"a":[1E5,-0,"\u00e9A/"],"n":null}}'.encode()
    assert (request.target, request.body) == ("/orders", body)
    assert request.headers == (("Content-Type", "application/json"),)


def test_the_keys_of_a_body_stand_in_the_order_of_the_callers_arguments_not_of_the_template() -> None:
    assert built(POST, b'{"line": 1, "dry": true, "id": 2}').body == b'{"line":1,"orderId":2}'


def test_an_absent_argument_is_left_out_of_a_body_and_a_null_is_not() -> None:
    assert built(POST, b'{"id": null}').body == b'{"orderId":null}'
    assert built(POST, b"{}").body == b"{}"


@pytest.mark.parametrize(
    ("value", "query"),
    [
        ("null", ""),
        ("[]", ""),
        ("true", "?week=true"),
        ("false", "?week=false"),
        ("1.10", "?week=1.10"),
        ("1E+5", "?week=1E%2B5"),
        ('""', "?week="),
        ('["a b", 2, true]', "?week=a%20b&week=2&week=true"),
        ('"a&b=c#d?e/f+g%h"', "?week=a%26b%3Dc%23d%3Fe%2Ff%2Bg%25h"),
        ('"\u00fc\\u0001\\r\\n"', "?week=%C3%BC%01%0D%0A"),
    ],
)
def test_query_values(value: str, query: str) -> None:
    assert built(GET, f'{{"id": "x", "week": {value}}}'.encode()).target == "/suppliers/x/capacity" + query


@pytest.mark.parametrize("value", ["{}", '{"a": 1}', "[[1]]", "[null]", '[{"a": 1}]'])
def test_objects_and_nested_lists_have_no_form_in_a_query(value: str) -> None:
    refusal = refused(GET, f'{{"id": "x", "week": {value}}}'.encode())
    assert (refusal.code, refusal.ran) == (Code.INVALID_ARGUMENTS, Ran.NO)
    assert "week" in refusal.message


@pytest.mark.parametrize("value", ['""', '"."', '".."', "null", "[]", '["a"]', "{}"])
def test_a_path_argument_that_servers_would_normalize_away_is_refused(value: str) -> None:
    refusal = refused(GET, f'{{"id": {value}}}'.encode())
    assert refusal.code is Code.INVALID_ARGUMENTS
    assert "argument id" in refusal.message


def test_a_missing_path_argument_is_refused() -> None:
    assert refused(GET, b"{}").code is Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(("a", "b", "filled"), [("x", "y", "x-y"), ("..", "", "..-"), ("/", "%", "%2F-%25")])
def test_several_placeholders_share_a_segment(a: str, b: str, filled: str) -> None:
    assert path("/r/{a}-{b}/z", {"a": a, "b": b}) == f"/r/{filled}/z"


def test_placeholders_that_together_make_a_dot_segment_are_refused() -> None:
    with pytest.raises(Refusal, match="a, b"):
        path("/r/{a}{b}/z", {"a": ".", "b": "."})


def test_a_value_that_looks_like_a_placeholder_or_a_group_is_only_a_value() -> None:
    assert path("/{a}/{b}", {"a": "{b}", "b": r"\1\g<0>"}) == "/%7Bb%7D/%5C1%5Cg%3C0%3E"


@pytest.mark.parametrize(
    "template", ["{id}", "x/{id}", "/a?b={id}", "/a b/{id}", "/a#{id}", "/\u00fc/{id}", "/%2/{id}", ""]
)
def test_a_template_that_is_no_path_is_never_sent(template: str) -> None:
    refusal = refused(RequestTemplate(method="GET", path=template), b'{"id": "x"}' if "{" in template else b"{}")
    assert (refusal.code, refusal.ran) == (Code.INTERNAL_ERROR, Ran.NO)


def test_an_argument_without_a_place_is_refused_not_dropped() -> None:
    refusal = refused(GET, b'{"id": "x", "admin": true}')
    assert refusal.code is Code.INVALID_ARGUMENTS
    assert "admin has no place" in refusal.message


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_methods_without_a_body_never_get_one(method: str) -> None:
    assert refused(RequestTemplate(method=method, path="/x", body={"a": "a"}), b'{"a": 1}').code is Code.INTERNAL_ERROR
    assert built(RequestTemplate(method=method, path="/x"), b"{}").body is None


def test_a_tool_without_a_request_is_refused() -> None:
    assert refused(None, b"{}").code is Code.INTERNAL_ERROR


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_stays_inside_its_segment_and_its_query_value(value: str) -> None:
    text = json.dumps({"id": value + "!", "week": value}).encode()
    target = built(GET, text).target
    route, _, query = target.partition("?")
    segments = route.split("/")
    assert [segments[1], unquote(segments[2]), *segments[3:]] == ["suppliers", value + "!", "capacity"]
    pairs: list[tuple[str, Any]] = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    assert pairs == [("week", value)]
    assert target.isascii()
