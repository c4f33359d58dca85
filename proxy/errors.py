"""Every "no" of Sidegate has one of these codes: API, audit field and metric label at once (design section 14)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Ran(StrEnum):
    """Whether the tool was executed, as far as Sidegate can know."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Retry(StrEnum):
    """Whether a call can succeed later, and what has to happen first."""

    NEVER = "never"
    AFTER_CHANGE = "after_change"
    AFTER_REGISTERING = "after_registering"
    SAME_CALL_LATER = "same_call_later"
    ASK_AGAIN = "ask_again"
    LATER = "later"


class Code(StrEnum):
    """Stable refusal codes."""

    INVALID_JSON = "invalid_json"
    INVALID_CALL = "invalid_call"
    INVALID_ARGUMENTS = "invalid_arguments"
    UNSUPPORTED_VERSION = "unsupported_version"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    CONVERSATION_EXPIRED = "conversation_expired"
    UNKNOWN_TOOL = "unknown_tool"
    TOOL_QUARANTINED = "tool_quarantined"
    UNKNOWN_CONVERSATION = "unknown_conversation"
    CONFLICTING_CONVERSATION = "conflicting_conversation"
    UNKNOWN_CALL = "unknown_call"
    CALL_CONCLUDED = "call_concluded"
    DENIED = "denied"
    STOPPED = "stopped"
    REPEATED_CALL = "repeated_call"
    NOT_APPROVER = "not_approver"
    REVIEW_PENDING = "review_pending"
    REVIEW_REJECTED = "review_rejected"
    REVIEW_EXPIRED = "review_expired"
    ABANDONED = "abandoned"
    OVERLOADED = "overloaded"
    POLICY_UNAVAILABLE = "policy_unavailable"
    POLICY_INVALID = "policy_invalid"
    FACTS_UNAVAILABLE = "facts_unavailable"
    STATE_UNAVAILABLE = "state_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    UPSTREAM_OPEN = "upstream_open"
    TOOL_TIMEOUT = "tool_timeout"
    TOOL_UNREACHABLE = "tool_unreachable"
    TOOL_FAILED = "tool_failed"
    INVALID_RESULT = "invalid_result"
    OUTCOME_UNKNOWN = "outcome_unknown"
    RESULT_WITHHELD = "result_withheld"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says when nothing more is known: HTTP status (native and http dialects), whether it ran, whether to retry."""

    status: int
    ran: Ran
    retry: Retry
    says: str


MEANINGS: Mapping[Code, Meaning] = {
    Code.INVALID_JSON: Meaning(
        400,
        Ran.NO,
        Retry.AFTER_CHANGE,
        "the body, or the arguments text in it, is not JSON that every parser reads alike",
    ),
    Code.INVALID_CALL: Meaning(
        400, Ran.NO, Retry.AFTER_CHANGE, "the request is JSON, but no tool call, report or registration"
    ),
    Code.INVALID_ARGUMENTS: Meaning(
        400,
        Ran.NO,
        Retry.AFTER_CHANGE,
        "the arguments do not fit the schema of the version asked for; every fault is named",
    ),
    Code.UNSUPPORTED_VERSION: Meaning(
        400, Ran.NO, Retry.AFTER_CHANGE, "this version of the tool is not supported (any more)"
    ),
    Code.TOO_LARGE: Meaning(413, Ran.NO, Retry.AFTER_CHANGE, "the body is over `limits.body_bytes`"),
    Code.UNAUTHENTICATED: Meaning(401, Ran.NO, Retry.AFTER_REGISTERING, "no token, or one that is not accepted here"),
    Code.CONVERSATION_EXPIRED: Meaning(
        401,
        Ran.NO,
        Retry.AFTER_REGISTERING,
        "the conversation's registration has ended; register it again, its labels stay",
    ),
    Code.UNKNOWN_TOOL: Meaning(404, Ran.NO, Retry.NEVER, "the catalog has no such tool"),
    Code.TOOL_QUARANTINED: Meaning(
        404, Ran.NO, Retry.NEVER, "the catalog has it, but its entry cannot be used at present"
    ),
    Code.UNKNOWN_CONVERSATION: Meaning(404, Ran.NO, Retry.NEVER, "no such conversation, or not yours"),
    Code.CONFLICTING_CONVERSATION: Meaning(
        409, Ran.NO, Retry.NEVER, "what the request brings names two conversations or two principals"
    ),
    Code.UNKNOWN_CALL: Meaning(404, Ran.NO, Retry.NEVER, "no such held call, review or awaited result, or not yours"),
    Code.CALL_CONCLUDED: Meaning(
        409, Ran.NO, Retry.NEVER, "the approval has been used, or the review has been answered"
    ),
    Code.DENIED: Meaning(403, Ran.NO, Retry.NEVER, "policy says no; the reasons are named"),
    Code.STOPPED: Meaning(403, Ran.NO, Retry.NEVER, "an operator has thrown a stop switch"),
    Code.REPEATED_CALL: Meaning(
        403, Ran.NO, Retry.NEVER, "the very same call was refused or failed three times in a row"
    ),
    Code.NOT_APPROVER: Meaning(403, Ran.NO, Retry.NEVER, "this reviewer may not answer this review"),
    Code.REVIEW_PENDING: Meaning(409, Ran.NO, Retry.SAME_CALL_LATER, "a person has to say yes first"),
    Code.REVIEW_REJECTED: Meaning(409, Ran.NO, Retry.NEVER, "the person said no"),
    Code.REVIEW_EXPIRED: Meaning(409, Ran.NO, Retry.ASK_AGAIN, "nobody answered in time, which is a no"),
    Code.ABANDONED: Meaning(
        499, Ran.NO, Retry.SAME_CALL_LATER, "the caller left before the call was allowed (in records only)"
    ),
    Code.OVERLOADED: Meaning(
        429, Ran.NO, Retry.LATER, "a limit of calls or holds is reached, or the sidecar is shutting down"
    ),
    Code.POLICY_UNAVAILABLE: Meaning(503, Ran.NO, Retry.LATER, "OPA did not answer, or answered for another revision"),
    Code.POLICY_INVALID: Meaning(503, Ran.NO, Retry.LATER, "OPA answered, but not with a decision"),
    Code.FACTS_UNAVAILABLE: Meaning(503, Ran.NO, Retry.LATER, "it could not be found out whose a record is"),
    Code.STATE_UNAVAILABLE: Meaning(503, Ran.NO, Retry.LATER, "the state of conversations cannot be kept at present"),
    Code.AUDIT_UNAVAILABLE: Meaning(503, Ran.NO, Retry.LATER, "the journal cannot be written; nothing runs unrecorded"),
    Code.UPSTREAM_OPEN: Meaning(
        503, Ran.NO, Retry.LATER, "the upstream failed several times in a row and is left alone for a while"
    ),
    Code.TOOL_TIMEOUT: Meaning(504, Ran.UNKNOWN, Retry.NEVER, "the tool did not answer in its time"),
    Code.TOOL_UNREACHABLE: Meaning(502, Ran.NO, Retry.LATER, "the tool could not be reached; nothing was sent"),
    Code.TOOL_FAILED: Meaning(502, Ran.YES, Retry.NEVER, "the tool answered that it failed"),
    Code.INVALID_RESULT: Meaning(
        502, Ran.YES, Retry.NEVER, "the tool answered something else than its catalog entry says"
    ),
    Code.OUTCOME_UNKNOWN: Meaning(
        502, Ran.UNKNOWN, Retry.NEVER, "the connection broke after sending, or no result was reported"
    ),
    Code.RESULT_WITHHELD: Meaning(403, Ran.YES, Retry.NEVER, "the result contained the credential that was used"),
    Code.INTERNAL_ERROR: Meaning(
        500, Ran.NO, Retry.LATER, "a fault of Sidegate itself; the call was refused and recorded"
    ),
}


class Refusal(Exception):
    """A "no" with a stable code.

    `message` and `fix` are shown to the model: names and limits, never values of others, hosts or library names.
    `details` go to the audit record and to reviewers only. `reasons` are `(policy, code)` pairs that decided.
    """

    def __init__(  # noqa: PLR0913 - keyword-only fields of one value
        self,
        code: Code,
        message: str,
        *,
        fix: str | None = None,
        ran: Ran | None = None,
        retry: Retry | None = None,
        details: Mapping[str, object] | None = None,
        reasons: tuple[tuple[str, str], ...] = (),
        review_id: str | None = None,
        approvers: tuple[str, ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        meaning = MEANINGS[code]
        self.code = code
        self.message = message
        self.fix = fix
        self.status = meaning.status
        self.ran = meaning.ran if ran is None else ran
        self.retry = meaning.retry if retry is None else retry
        self.details = details
        self.reasons = reasons
        self.review_id = review_id
        self.approvers = approvers
        self.retry_after = retry_after
