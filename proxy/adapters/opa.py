"""Port Policy on OPA's Data API: fixed paths, the document passed on byte for byte, every fault a Refusal (design section 10).

`strict-builtin-errors` is always on: without it a built-in that fails inside a deny rule makes the deny vanish.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import orjson

from proxy.adapters.opa_transport import OpaFault
from proxy.core.decision import read_decision, read_mismatch, read_shadow, read_visible
from proxy.errors import Code, Refusal
from proxy.model import Decision, Effect, SpanContext

MAX_STATE = 1024  # characters of a tracestate that is passed on
MAX_ERROR = 500  # characters of each text of OPA's that goes to the audit

_PACKAGE = "/v1/data/sidegate/decision"
_STRICT = "strict-builtin-errors=true"
DECISION = f"{_PACKAGE}/decision?{_STRICT}"
VISIBLE = f"{_PACKAGE}/visible?{_STRICT}"
SHADOW = f"{_PACKAGE}/shadow?{_STRICT}"
MISMATCH = f"{_PACKAGE}/mismatch?{_STRICT}"

_INVALID = "the policy service gave no valid decision; nothing was executed"
_UNREACHABLE = "the policy service could not be reached; nothing was executed"
_NOT_TAKEN = "the policy service did not take the question; nothing was executed"
_FAULTS: Mapping[str, tuple[Code, str]] = {
    "timeout": (Code.POLICY_UNAVAILABLE, "the policy service did not answer in time; nothing was executed"),
    "busy": (Code.OVERLOADED, "more calls wait for a decision than can be decided in time; nothing was executed"),
    "unreachable": (Code.POLICY_UNAVAILABLE, _UNREACHABLE),
    "closed": (Code.POLICY_UNAVAILABLE, _UNREACHABLE),
    "malformed": (Code.POLICY_INVALID, _INVALID),
    "too_large": (Code.POLICY_INVALID, _INVALID),
    "media_type": (Code.POLICY_INVALID, _INVALID),
}


class Transport(Protocol):
    """What carries a query: SidecarOpaClient."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Status, media type and body, in bounded time. Raises OpaFault."""
        ...


class OpaPolicy:
    """Asks OPA. `document` is the policy input as a JSON object; it is sent as it is."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """One decision. Raises Refusal policy_unavailable or policy_invalid; `details` name the cause, the message never."""
        return read_decision(await self._ask(DECISION, document, trace))

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """Names of the tools that a principal may see. Raises as `decide`."""
        return read_visible(await self._ask(VISIBLE, document, trace))

    async def shadow(self, document: bytes, trace: SpanContext) -> Mapping[str, Any]:
        """What policies on trial would have said, by policy; to be asked after the answer. Raises as `decide`."""
        return read_shadow(await self._ask(SHADOW, document, trace))

    async def mismatch(self) -> frozenset[str]:
        """Policies loaded but not listed, or listed but not loaded. Raises as `decide`."""
        return read_mismatch(await self._ask(MISMATCH, b"{}", None))

    async def revision(self) -> str:
        """The policy revision in force, by a query whose answer is known: a call without facts is denied. Raises as `decide`."""
        decision = read_decision(await self._ask(DECISION, b"{}", None))
        if decision.effect is not Effect.DENY:
            raise Refusal(Code.POLICY_INVALID, _INVALID, details={"cause": "allows_without_facts"})
        return decision.revision

    async def warm(self) -> str:
        """Ask twice, so that OPA's compiling (2 ms and more, at the first query of a path) is done; the revision in force."""
        await self.revision()
        return await self.revision()

    async def _ask(self, path: str, document: bytes, trace: SpanContext | None) -> bytes:
        try:
            status, _, body = await self._transport.post(path, b'{"input":' + document + b"}", _headers(trace))
        except OpaFault as fault:
            code, message = _FAULTS[fault.cause]
            raise Refusal(code, message, details={"cause": fault.cause}) from None
        if status != 200:
            _refuse_status(status, body)
        return body


def _headers(trace: SpanContext | None) -> dict[str, str]:
    if trace is None:
        return {}
    headers = {"traceparent": trace.traceparent}
    # The state is the caller's text: what a header cannot carry is left out, as W3C Trace Context allows.
    if trace.state and len(trace.state) <= MAX_STATE and trace.state.isascii() and trace.state.isprintable():
        headers["tracestate"] = trace.state
    return headers


def _refuse_status(status: int, body: bytes) -> NoReturn:
    if status == 500:
        raise Refusal(Code.POLICY_INVALID, _INVALID, details={"cause": "evaluation", **_opa_error(body)})
    raise Refusal(
        Code.POLICY_UNAVAILABLE, _NOT_TAKEN, details={"cause": "status", "status": status, **_opa_error(body)}
    )


def _opa_error(body: bytes) -> dict[str, object]:
    """Code, message and place of the first error in OPA's error body (REST API, "Errors"), as far as they can be read."""
    try:
        error = orjson.loads(body)
        first = error["errors"][0] if error.get("errors") else error
        place = first.get("location", {})
        texts = {
            "code": first.get("code", ""),
            "message": first.get("message", ""),
            "location": f"{place['file']}:{place['row']}:{place['col']}" if place else "",
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return {"code": "unreadable"}
    return {name: str(text)[:MAX_ERROR] for name, text in texts.items() if text}
