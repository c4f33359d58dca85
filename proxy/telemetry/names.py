"""Every name that telemetry emits: spans, attributes, metrics.

`gen_ai.*` by the GenAI semantic conventions v0.1.0 on core semantic conventions v1.45.0 (all at Development);
`security_rule.*`, `server.*`, `http.*` and `error.type` by core v1.45.0. Ours carry the prefix `sidegate`.
"""

from collections.abc import Mapping

SCOPE = "sidegate"  # instrumentation scope
SCHEMA_URL = "https://opentelemetry.io/schemas/1.45.0"

# Spans. `{tool}` is a name of the catalog, else OTHER, so that there are few different ones.
SPAN_CALL = "execute_tool"  # SERVER, "execute_tool {tool}"
SPAN_DECIDE = "decide"  # INTERNAL
SPAN_VISIBLE = "visible"  # INTERNAL
SPAN_REVIEW_REQUESTED = "review requested"  # INTERNAL, ends at once
SPAN_REVIEW_RESOLVED = "review resolved"  # INTERNAL, linked to the one before; also when nobody waits for the answer
SPAN_UPSTREAM = "tools/call"  # CLIENT, "tools/call {tool}"; INTERNAL where the agent runs the tool itself
SPAN_FACTS = "facts"  # CLIENT, "facts {record type}"

SPAN_SERVER = "server"
SPAN_CLIENT = "client"
SPAN_INTERNAL = "internal"

OTHER = "_other"  # in place of a name that the catalog does not know
OK = "ok"  # code of a call without a refusal
NO_DECISION = "none"  # decision of a call that was refused before policy was asked
DEFAULT_DENY = "default-deny"  # rule name where nothing granted a call and nothing denied it

OPERATION_NAME = "gen_ai.operation.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
CONVERSATION_ID = "gen_ai.conversation.id"
RULESET_NAME = "security_rule.ruleset.name"
RULE_NAME = "security_rule.name"
RULE_VERSION = "security_rule.version"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_STATUS = "http.response.status_code"
DECISION = "sidegate.decision"
DECISION_ID = "sidegate.decision_id"
REASON = "sidegate.reason"
REASONS = "sidegate.reasons"
CODE = "sidegate.code"
RAN = "sidegate.ran"
SYSTEM = "sidegate.system"
LABELS = "sidegate.labels"
PRINCIPAL = "sidegate.principal"
AGENT = "sidegate.agent"
REVISION = "sidegate.revision"
REVIEW_ID = "sidegate.review_id"
REVIEW_STATUS = "sidegate.review.status"
REVIEW_BY = "sidegate.review.by"
REVIEW_SECONDS = "sidegate.review.seconds"
REVIEW_APPROVERS = "sidegate.review.approvers"
REVIEW_EXPIRES = "sidegate.review.expires_at"
RESUMES = "sidegate.resumes"
WAITED = "sidegate.waited"
UPSTREAM = "sidegate.upstream"
RECORD_TYPE = "sidegate.record.type"

ALL_ATTRIBUTES: Mapping[str, str] = {
    OPERATION_NAME: "always execute_tool",
    TOOL_NAME: "the tool's name; _other if it does not look like one",
    TOOL_CALL_ID: "the caller's id of the call",
    CONVERSATION_ID: "the conversation; ~implicit if nobody registered one",
    RULESET_NAME: "the policy that decided",
    RULE_NAME: "the code of the reason that decided; default-deny if nothing granted the call",
    RULE_VERSION: "revision of the policy bundle that decided",
    ERROR_TYPE: "refusal code, HTTP status or fault; only on spans with status ERROR",
    SERVER_ADDRESS: "host of the upstream",
    SERVER_PORT: "port of the upstream",
    HTTP_STATUS: "HTTP status that the upstream answered",
    DECISION: "allow, deny, review, or none if the call was refused before policy was asked",
    DECISION_ID: "id of the call and of its audit records",
    REASON: "the reason that decided, as policy.code",
    REASONS: "how many reasons the decision has",
    CODE: "refusal code, or ok",
    RAN: "whether the tool ran: yes, no, unknown",
    SYSTEM: "the business system of the tool",
    LABELS: "labels that a result of the tool carries",
    PRINCIPAL: "the principal, as issuer#subject",
    AGENT: "the workload: SPIFFE id, or namespace/service account",
    REVISION: "catalog and policy revision in force",
    REVIEW_ID: "the review of a held call",
    REVIEW_STATUS: "what became of the review",
    REVIEW_BY: "who answered the review, as issuer#subject; sidegate where nobody did",
    REVIEW_SECONDS: "seconds from the request of a review to its answer: how long the person took",
    REVIEW_APPROVERS: "groups whose members may answer the review",
    REVIEW_EXPIRES: "when the review counts as a no if nobody answers",
    RESUMES: "id of the held call that this call runs after its approval",
    WAITED: "seconds the call was held",
    UPSTREAM: "the upstream's name in the catalog",
    RECORD_TYPE: "type of the record that facts were asked of",
}

ONCE = frozenset({TOOL_CALL_ID, DECISION_ID, REVIEW_ID, REVIEW_EXPIRES, RESUMES})  # no two calls say the same in these
ALONE = ONCE | {
    CONVERSATION_ID,
    PRINCIPAL,
    LABELS,
    REVIEW_SECONDS,
    REVIEW_APPROVERS,
    WAITED,
}  # the others stand together

# Metrics.
CALLS_TOTAL = "sidegate_calls_total"
DECISIONS_TOTAL = "sidegate_decisions_total"
DECIDING_REASONS_TOTAL = "sidegate_deciding_reasons_total"
STAGE_SECONDS = "sidegate_stage_seconds"
FAIL_CLOSED_TOTAL = "sidegate_fail_closed_total"
REVIEWS_WAITING = "sidegate_reviews_waiting"
REVIEWS_OLDEST_SECONDS = "sidegate_reviews_oldest_seconds"
REVIEWS_DEADLINE_SECONDS = "sidegate_reviews_deadline_seconds"
REVIEW_WAIT_SECONDS = "sidegate_review_wait_seconds"
POLICY_REVISION_INFO = "sidegate_policy_revision_info"
CATALOG_REVISION_INFO = "sidegate_catalog_revision_info"
REVISION_SKEW = "sidegate_revision_skew"
RELOAD_SUCCESSFUL = "sidegate_reload_successful"
RELOAD_TIMESTAMP_SECONDS = "sidegate_reload_success_timestamp_seconds"
NOT_ENFORCING = "sidegate_policies_not_enforcing"
OPA_UP = "sidegate_opa_up"
OPA_RESTARTS_TOTAL = "sidegate_opa_restarts_total"
JOURNAL_RECORDS_TOTAL = "sidegate_journal_records_total"
JOURNAL_FREE_BYTES = "sidegate_journal_free_bytes"
JOURNAL_SIZE_BYTES = "sidegate_journal_size_bytes"
STOPS_STANDING = "sidegate_stops_standing"
CONVERSATIONS_IN_MEMORY = "sidegate_conversations_in_memory"
CALLS_IN_FLIGHT = "sidegate_calls_in_flight"
LOOP_LAG_SECONDS = "sidegate_loop_lag_seconds"
SPANS_DROPPED_TOTAL = "sidegate_spans_dropped_total"
TELEMETRY_FAULTS_TOTAL = "sidegate_telemetry_faults_total"
BUILD_INFO = "sidegate_build_info"

ALL_METRICS: Mapping[str, str] = {
    CALLS_TOTAL: "Tool calls by tool, decision and refusal code (ok for none).",
    DECISIONS_TOTAL: "Tool calls decided without anything of Sidegate's own failing, by effect.",
    DECIDING_REASONS_TOTAL: "Tool calls denied or held, by the policy and the reason that decided.",
    STAGE_SECONDS: "Seconds of a tool call by stage: decide, hold, upstream, overhead, total.",
    FAIL_CLOSED_TOTAL: "Tool calls refused because something of Sidegate's own failed, by refusal code.",
    REVIEWS_WAITING: "Reviews that wait for a person.",
    REVIEWS_OLDEST_SECONDS: "Age of the oldest review that waits for a person; 0 if none does.",
    REVIEWS_DEADLINE_SECONDS: "Age at which a review that nobody answered counts as a no.",
    REVIEW_WAIT_SECONDS: "Seconds from the request of a review to its end, by outcome.",
    POLICY_REVISION_INFO: "1, labelled with the policy revision in force and the agent's namespace/service account.",
    CATALOG_REVISION_INFO: "1, labelled with the catalog revision in force and the agent's namespace/service account.",
    REVISION_SKEW: "1 while OPA serves another policy revision than the one in force here, else 0.",
    RELOAD_SUCCESSFUL: "1 if the newest catalog and policy files were taken over, 0 if older ones stay in force.",
    RELOAD_TIMESTAMP_SECONDS: "When catalog and policy were last taken over, seconds since 1970.",
    NOT_ENFORCING: "Policies in force whose mode is warn or shadow, by mode.",
    OPA_UP: "1 while OPA answers, else 0.",
    OPA_RESTARTS_TOTAL: "Restarts of the OPA that Sidegate supervises; 0 for an OPA of its own container.",
    JOURNAL_RECORDS_TOTAL: "Records written to the journal.",
    JOURNAL_FREE_BYTES: "Free space of the journal's volume.",
    JOURNAL_SIZE_BYTES: "Size of the journal's volume.",
    STOPS_STANDING: "Stop switches that stand, by scope.",
    CONVERSATIONS_IN_MEMORY: "Conversations in memory.",
    CALLS_IN_FLIGHT: "Tool calls under way; held ones do not count.",
    LOOP_LAG_SECONDS: "Seconds that the event loop was late, looked at every second.",
    SPANS_DROPPED_TOTAL: "Spans that were recorded and never reached the collector.",
    TELEMETRY_FAULTS_TOTAL: "Faults in telemetry itself; the calls went on without it.",
    BUILD_INFO: "1, labelled with the version.",
}

# Labels of those metrics that have any. Their values are few: names of the catalog, codes, or what policy calls its reasons.
METRIC_LABELS: Mapping[str, tuple[str, ...]] = {
    CALLS_TOTAL: ("tool", "decision", "code"),
    DECISIONS_TOTAL: ("effect",),
    DECIDING_REASONS_TOTAL: ("effect", "policy", "reason"),
    STAGE_SECONDS: ("stage",),
    FAIL_CLOSED_TOTAL: ("code",),
    REVIEW_WAIT_SECONDS: ("outcome",),
    POLICY_REVISION_INFO: ("revision", "agent"),
    CATALOG_REVISION_INFO: ("revision", "agent"),
    NOT_ENFORCING: ("mode",),
    STOPS_STANDING: ("scope",),
    BUILD_INFO: ("version",),
}
