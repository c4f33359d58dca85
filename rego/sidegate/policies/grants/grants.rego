# METADATA
# title: Permission matrix
# description: The only source of allow. Agent and principal must both be covered; what nobody is granted is refused.
# schemas:
#   - input: schema.input
package sidegate.policies.grants

import rego.v2

# METADATA
# title: A grant covers this call
allow contains grant.reason if some grant in _covering

# METADATA
# title: Every covering grant asks for a person
review contains {
	"code": "grant_needs_review",
	"message": $"{input.tool.name} needs a person's yes for your role",
	"approvers": [name | some name in {name | some grant in _covering; some name in grant.review.approvers}],
	"scope": _scope,
} if {
	_covering != set()
	every grant in _covering { grant.review }
}

# METADATA
# title: A role has this tool, but not with these arguments
deny contains {
	"code": "out_of_bounds",
	"message": $"role {grant.role} may use {input.tool.name} only with {bound.argument} {bound.says}",
	"fix": $"change {bound.argument} to be {bound.says}, or ask somebody whose role reaches further",
	"details": {"role": grant.role, "argument": bound.argument},
} if {
	_covering == set()
	some grant in _candidates
	some bound in grant.bounds
	not _within(bound)
}

# METADATA
# title: A role has this tool, but not through this agent
deny contains {
	"code": "agent_not_covered",
	"message": $"role {grant.role} may not use {input.tool.name} through this agent",
	"details": {"role": grant.role},
} if {
	_covering == set()
	some grant in _candidates
	not _agent_covered(grant)
}

# METADATA
# title: A role had this tool until a date that has passed
deny contains {
	"code": "grant_ended",
	"message": $"the grant of {input.tool.name} to role {grant.role} has ended",
	"details": {"role": grant.role},
} if {
	_covering == set()
	some grant in _candidates
	not _lasts(grant)
}

# METADATA
# title: Tools that a role may use through this agent, whatever the arguments
# schemas:
#   - input: schema.visible
visible contains tool.name if {
	some tool in input.tools
	some role in input.principal.roles
	some grant in _by_role(tool)[role]
	_agent_covered(grant)
	_lasts(grant)
}

# The tool by name; if no grant names it, its system and effect.
_by_role(tool) := roles if {
	roles := data.sidegate.settings.grants.tools[tool.name]
} else := data.sidegate.settings.grants.systems[tool.system][tool.effect]

_candidates contains grant if {
	some role in input.principal.roles
	some grant in _by_role(input.tool)[role]
}

_covering contains grant if {
	some grant in _candidates
	_agent_covered(grant)
	_lasts(grant)
	every bound in grant.bounds { _within(bound) }
}

_agent_covered(grant) if not grant.agents

_agent_covered(grant) if grant.agents[input.agent.spiffe_id]

_agent_covered(grant) if {
	is_string(input.agent.namespace)
	is_string(input.agent.service_account)
	grant.agents[$"{input.agent.namespace}/{input.agent.service_account}"]
}

_lasts(grant) if not grant.until

_lasts(grant) if {
	is_string(input.environment.now)
	input.environment.now < grant.until
}

# An argument that is absent is out of bounds, since the upstream's default is unknown.
_within(bound) if input.call.arguments[bound.argument] in bound.one_of

_within(bound) if {
	is_number(input.call.arguments[bound.argument])
	input.call.arguments[bound.argument] <= bound.max
}

_within(bound) if {
	is_number(input.call.arguments[bound.argument])
	input.call.arguments[bound.argument] >= bound.min
}

default _scope := "once"

_scope := "conversation" if {
	input.tool.effect == "read"
	every grant in _covering { grant.review.scope == "conversation" }
}
