# METADATA
# title: Combination
# description: Marks (systems, labels, effects) that may not meet in one conversation. Only calls that take part count.
# schemas:
#   - input: schema.input
package sidegate.policies.combination

import rego.v2

# METADATA
# title: These may never meet
deny contains rule.reason if {
	some rule in _met
	not rule.then in {"review", "warn"}
}

# METADATA
# title: These may meet only with a person's yes
review contains object.union(rule.reason, {"approvers": rule.approvers, "scope": _scope(rule)}) if {
	some rule in _met
	rule.then == "review"
}

# METADATA
# title: It is worth a note that these met
warn contains rule.reason if {
	some rule in _met
	rule.then == "warn"
}

# Rules in force that this call takes part in and whose marks are all there.
_met contains rule if {
	some mark in input.tool.marks
	some rule in data.sidegate.settings.combination[mark]
	_complete(rule.marks)
	not _over(rule)
	not _outside(rule)
	not _exempt(rule.unless)
}

_complete(marks) if object.keys(marks) - _present == set()

# An agent that hides its conversation may have read anything.
_complete(_) if not input.conversation.history == "complete"

# A held call that cannot be read may carry any mark.
_complete(_) if {
	some call in _held
	not _readable(call)
}

_present := ({mark | some mark in input.tool.marks} | object.keys(input.conversation.marks)) | _held_marks

_held_marks := {mark | some call in _held; some mark in _marks(call)}

# Calls that stand in no summary: held ones, and what has no outcome that we know.
_held contains call if {
	some call in input.conversation.calls
	not call.outcome in {"executing", "done", "unknown"}
}

_marks(call) := {$"system:{call.system}", $"effect:{call.effect}"} | {$"label:{label}" | some label in call.labels}

_readable(call) if {
	is_string(call.system)
	call.system != ""
	call.effect in {"read", "fetch", "write", "send", "admin"}
	every label in call.labels { is_string(label) }
}

_over(rule) if input.environment.now >= rule.until

_outside(rule) if {
	some window in rule.off_hours
	substring(input.environment.now, 11, 5) >= window.from
	substring(input.environment.now, 11, 5) < window.to
}

_exempt(unless) if {
	some role in input.principal.roles
	unless.roles[role]
}

_exempt(unless) if unless.profiles[input.conversation.profile]

_exempt(unless) if unless.agents[input.agent.spiffe_id]

_exempt(unless) if {
	is_string(input.agent.namespace)
	is_string(input.agent.service_account)
	unless.agents[$"{input.agent.namespace}/{input.agent.service_account}"]
}

default _scope(_) := "once"

_scope(rule) := rule.scope if input.tool.effect == "read"
