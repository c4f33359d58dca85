"""Who ended a call, by its refusal code: policy, or something that no rule can change. Pure."""

from collections.abc import Mapping

from proxy.errors import MEANINGS, Code

_READER = "the strict reader of what agents send"
_IDENTITY = "the look at who calls, and in which conversation"
_CATALOG = "the catalog"
_SIDEGATE = "Sidegate, which refuses what it cannot do safely"
_TOOL = "the tool"
_REVIEW = "the process of review"
_BY: Mapping[Code, str] = {
    Code.INVALID_JSON: _READER,
    Code.INVALID_CALL: _READER,
    Code.TOO_LARGE: _READER,
    Code.INVALID_ARGUMENTS: "the tool's schema in the catalog",
    Code.UNSUPPORTED_VERSION: _CATALOG,
    Code.UNKNOWN_TOOL: _CATALOG,
    Code.TOOL_QUARANTINED: _CATALOG,
    Code.UNAUTHENTICATED: _IDENTITY,
    Code.CONVERSATION_EXPIRED: _IDENTITY,
    Code.UNKNOWN_CONVERSATION: _IDENTITY,
    Code.CONFLICTING_CONVERSATION: _IDENTITY,
    Code.UNKNOWN_CALL: _REVIEW,
    Code.CALL_CONCLUDED: _REVIEW,
    Code.NOT_APPROVER: _REVIEW,
    Code.REVIEW_REJECTED: "a reviewer",
    Code.REVIEW_EXPIRED: _REVIEW,
    Code.STOPPED: "an operator's stop switch (`sidegate stop list` shows those that stand)",
    Code.REPEATED_CALL: "the guard against loops",
    Code.ABANDONED: "the caller",
    Code.OVERLOADED: "a limit of the settings, or the end of the process",
    Code.POLICY_UNAVAILABLE: _SIDEGATE,
    Code.POLICY_INVALID: _SIDEGATE,
    Code.FACTS_UNAVAILABLE: _SIDEGATE,
    Code.STATE_UNAVAILABLE: _SIDEGATE,
    Code.AUDIT_UNAVAILABLE: _SIDEGATE,
    Code.INTERNAL_ERROR: _SIDEGATE,
    Code.UPSTREAM_OPEN: _TOOL,
    Code.TOOL_TIMEOUT: _TOOL,
    Code.TOOL_UNREACHABLE: _TOOL,
    Code.TOOL_FAILED: _TOOL,
    Code.INVALID_RESULT: "the check of the tool's result",
    Code.OUTCOME_UNKNOWN: _TOOL,
    Code.RESULT_WITHHELD: "the check of the tool's result",
}
BY_POLICY = frozenset({Code.DENIED, Code.REVIEW_PENDING})


def ended_by(code: object) -> str:
    """A sentence for a call that not policy ended; empty if policy did, if it went well, or if the code is not known."""
    found = next((each for each in _BY if each == code), None)
    return "" if found is None else f"{found} by {_BY[found]}, not by policy: {MEANINGS[found].says}"
