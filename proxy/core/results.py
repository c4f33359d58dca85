"""Step 11: what an upstream answered is a result or it is not (design section 13). What is passed on is the bytes that came."""

import hashlib
from typing import Any

from proxy.core.schema_words import json_type
from proxy.core.strict_json import read_tree, read_values, write
from proxy.core.tool import FailureWhen, Tool, ToolVersion
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Response, Result

MAX_EXCERPT = 500
_MAX_PROBLEMS = 5
_EMPTY: tuple[Any, ...] = (None, [], {}, "")
_MISSING = object()
# Statuses that say "not now" (RFC 9110, RFC 6585); anything else says "not like this".
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_NARROWING = ("limit", "page_size", "per_page", "max_results", "top", "page", "offset", "fields", "filter", "query")


def check_result(response: Response, tool: Tool, version: ToolVersion) -> Result:
    """The result of a call. Raises Refusal tool_failed for a status other than 2xx and for a declared failure inside, and
    invalid_result for what breaks size, media type, JSON or the result schema. The tool ran in all of these.

    The body is in no message to the model; an excerpt of a refused one is in the details, for the audit.
    """
    if not 200 <= response.status < 300:
        raise _failed_status(response, tool)
    _check_size(response, tool, version)
    body = _json_body(response, tool)
    value = read_values(body)
    _check_failure(value, tool.result.failure_when, response, tool)
    problems = [] if version.result is None else version.result.problems(value)
    if problems and not tool.result.pass_invalid:
        raise _invalid(response, tool, f"it is not as its schema says: {_listed(problems)}", problems)
    rows = _rows(value)
    return Result(
        body=body,
        size=len(body),
        digest=hashlib.sha256(body).hexdigest(),
        rows=rows,
        empty=rows == 0 or any(type(value) is type(e) and value == e for e in _EMPTY),
        problems=tuple(f"{where}: {what}" for where, what in problems[:_MAX_PROBLEMS]),
    )


def _failed_status(response: Response, tool: Tool) -> Refusal:
    kind = {3: "redirect", 4: "client error", 5: "server error"}.get(response.status // 100, "no final answer")
    later = response.status in _LATER and (tool.idempotent or response.status == 429)
    return Refusal(
        Code.TOOL_FAILED,
        f"the tool {tool.name} answered with status {response.status} ({kind})",
        fix="change the call, or do without it" if response.status // 100 == 4 else None,
        retry=Retry.LATER if later else None,
        ran=Ran.UNKNOWN if response.status // 100 == 5 else None,
        details={"status": response.status, "class": kind, "excerpt": _excerpt(response, tool)},
    )


def _check_size(response: Response, tool: Tool, version: ToolVersion) -> None:
    size, limit = len(response.body), tool.result.max_bytes
    if size <= limit:
        return
    names = [name for name in _NARROWING if name in version.arguments_schema.get("properties", {})]
    how = f" (narrow it by {', '.join(names)})" if names else ""
    raise Refusal(
        Code.INVALID_RESULT,
        f"the tool {tool.name} answered {size} bytes, and at most {limit} are passed on",
        fix=f"ask for less in one call{how}",
        details={"size": size, "limit": limit},
    )


def _json_body(response: Response, tool: Tool) -> bytes:
    """The body as JSON. 204 is the one status whose empty body says something (RFC 9110 section 15.3.5): null."""
    if response.status == 204 and not response.body:
        return b"null"
    media_type = response.media_type
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    if not is_json and media_type != tool.result.media_type:
        came = f"media type {media_type[:60]}" if media_type else "no media type"
        raise _invalid(response, tool, f"it came with {came}, expected was {tool.result.media_type}")
    if not response.body and is_json:
        raise _invalid(response, tool, "the body is empty, expected was JSON")
    if not is_json:
        return _text(response, tool)
    try:
        read_tree(response.body, "result")
    except Refusal as e:
        raise _invalid(response, tool, e.message) from None
    return response.body


def _text(response: Response, tool: Tool) -> bytes:
    try:
        return write(response.body.decode())
    except UnicodeDecodeError:
        raise _invalid(response, tool, "the text is not UTF-8") from None


def _check_failure(value: Any, when: FailureWhen | None, response: Response, tool: Tool) -> None:
    if when is None or not _same(_at(value, when.path), when.equals):
        return
    raise Refusal(
        Code.TOOL_FAILED,
        f"the tool {tool.name} answered that it failed ('{when.path}' says so)",
        details={"status": response.status, "class": "declared failure", "excerpt": _excerpt(response, tool)},
    )


def _listed(problems: list[tuple[str, str]]) -> str:
    listed = "; ".join(f"{where}: {what}" if where else what for where, what in problems[:_MAX_PROBLEMS])
    return listed + (f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else "")


def _invalid(response: Response, tool: Tool, why: str, problems: list[tuple[str, str]] | None = None) -> Refusal:
    details: dict[str, object] = {"status": response.status, "excerpt": _excerpt(response, tool)}
    if problems:
        details["problems"] = [{"at": where, "problem": what} for where, what in problems]
    return Refusal(
        Code.INVALID_RESULT,
        f"the result of {tool.name} cannot be passed on: {why}",
        fix=f"report it to {tool.upstream.owner}" if tool.upstream.owner else None,
        details=details,
    )


def _excerpt(response: Response, tool: Tool) -> str | None:
    """The beginning of a body for the record. An upstream that is given secrets repeats them when it fails: then nothing."""
    return None if tool.paths("secret") else response.body[:MAX_EXCERPT].decode(errors="replace")


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path, `$` being the whole; _MISSING if there is none."""
    for name in () if path == "$" else path.removeprefix("$.").split("."):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _same(value: Any, other: Any) -> bool:
    """Equal as JSON: `true` is not 1, `1.0` is 1 (RFC 8259 has one kind of number)."""
    kinds = {json_type(value), json_type(other)} if value is not _MISSING else {"missing", "present"}
    return (len(kinds) == 1 or kinds == {"integer", "number"}) and bool(value == other)


def _rows(value: Any) -> int | None:
    """Length of a list at the top, or of the single list among the fields of an object."""
    if isinstance(value, list):
        return len(value)
    lists = [v for v in value.values() if isinstance(v, list)] if isinstance(value, dict) else []
    return len(lists[0]) if len(lists) == 1 else None
