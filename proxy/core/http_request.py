"""From checked arguments to the HTTP request that is sent: what was judged is what the upstream receives (design section 6).

Nothing of the caller reaches host, scheme, port or a header. In path and query only the unreserved characters of RFC 3986
(section 2.3) stay as they are; numbers keep the token that the caller wrote.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from proxy.core import strict_json
from proxy.core.tool import RequestTemplate, Tool
from proxy.errors import Code, Refusal
from proxy.model import Arguments

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# Servers and libraries remove these segments or merge them with their neighbours, in whatever spelling (RFC 3986, 5.2.4).
_NORMALIZED_AWAY = frozenset({".", ".."})
_SEPARATORS = re.compile(r"[/\\]")
_DECODINGS = 5  # more than any server does
# RFC 3986, 3.3, from a slash on: a template that starts otherwise could grow the host, a '?', '#' or blank would end the path.
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_JSON_BODY = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request, complete but for its origin. `target` is path and query in ASCII, to be put behind a base URL's path."""

    method: str
    target: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


def build(tool: Tool, arguments: Arguments) -> HttpRequest:
    """The request of one call. Raises Refusal invalid_arguments for a value that has no safe place in it, internal_error for
    a tool whose catalog entry has no usable request."""
    template = tool.request
    if template is None or (template.body is not None and template.method in _BODILESS):
        raise Refusal(Code.INTERNAL_ERROR, f"tool {tool.name} has no request in the catalog that can be sent")
    tree = arguments.tree
    _refuse_strays(template, tree)
    pairs = [pair for key, name in template.query.items() for pair in _query_pairs(key, name, tree.get(name))]
    target = path(template.path, tree) + ("?" + "&".join(pairs) if pairs else "")
    if template.body is None:
        return HttpRequest(method=template.method, target=target)
    order = {name: n for n, name in enumerate(tree)}  # keys stand as the caller wrote them, as number tokens do
    placed = sorted(((key, name) for key, name in template.body.items() if name in tree), key=lambda at: order[at[1]])
    body = {key: tree[name] for key, name in placed}
    return HttpRequest(method=template.method, target=target, body=strict_json.write(body), headers=_JSON_BODY)


def path(template: str, values: Mapping[str, Any]) -> str:
    """The template with every placeholder filled, each value inside its own segment. `values` is a tree of arguments.
    Raises Refusal invalid_arguments, internal_error for a template that is no path."""
    filled = "/".join(_segment(segment, values) for segment in template.split("/"))
    if _PATH.fullmatch(filled) is None:
        raise Refusal(Code.INTERNAL_ERROR, "the catalog declares a request path that cannot be sent")
    return filled


def _segment(segment: str, values: Mapping[str, Any]) -> str:
    names = _PLACEHOLDER.findall(segment)
    if not names:
        return segment
    filled = _PLACEHOLDER.sub(lambda match: quote(_scalar(match[1], values.get(match[1])), safe=""), segment)
    if not filled or _climbs(filled):
        raise _unplaceable(
            ", ".join(names), "must not be empty nor hold a '.' or '..' as a part: it names a part of a path"
        )
    return filled


def _climbs(segment: str) -> bool:
    """Whether a server that decodes before it normalizes, be it twice, could leave the segment (RFC 3986 section 5.2.4): then
    another record would be read than the one that was judged."""
    for _ in range(_DECODINGS):
        decoded = unquote(segment)
        if decoded == segment:
            break
        segment = decoded
    return any(part.partition(";")[0].strip() in _NORMALIZED_AWAY for part in _SEPARATORS.split(segment))


def _query_pairs(key: str, name: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    for item in value if isinstance(value, list) else (value,):
        yield f"{quote(key, safe='')}={quote(_scalar(name, item), safe='')}"


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    token = strict_json.number_token(value)
    if token is None:
        raise _unplaceable(name, "must be a string, a number or a boolean: it is sent in the URL")
    return token


def _refuse_strays(template: RequestTemplate, tree: Mapping[str, Any]) -> None:
    placed = {*_PLACEHOLDER.findall(template.path), *template.query.values(), *(template.body or {}).values()}
    if strays := sorted(tree.keys() - placed):
        raise _unplaceable(", ".join(strays), "has no place in the request of this tool")


def _unplaceable(name: str, why: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENTS, f"argument {name} {why}", fix=f"change or leave out {name}")
