# METADATA
# title: Arguments
# description: Bounds that no schema can express, since they hang on who calls.
# schemas:
#   - input: schema.input
package sidegate.policies.arguments

import rego.v2

# METADATA
# title: A number above the highest limit of the principal's roles
deny contains {
	"code": "over_limit",
	"message": $"{argument} is over your limit of {_limit(limits)}",
	"fix": $"lower {argument} to at most {_limit(limits)}, or ask somebody with a higher limit",
	"details": {"argument": argument, "limit": _limit(limits)},
} if {
	some argument, limits in _rules.limits
	_limit(limits) != null
	not _at_most(input.call.arguments[argument], _limit(limits))
}

# METADATA
# title: A number that none of the principal's roles may set
deny contains {
	"code": "no_limit",
	"message": $"no role of yours may set {argument}",
	"details": {"argument": argument},
} if {
	some argument, limits in _rules.limits
	_limit(limits) == null
}

# METADATA
# title: An address outside the principal's own domain
deny contains {
	"code": "foreign_domain",
	"message": $"{argument} may only hold addresses of your own domain",
	"details": {"argument": argument},
} if {
	some argument in _rules.own_domain
	argument in object.keys(input.call.arguments)
	not _own(input.call.arguments[argument])
}

_rules := data.sidegate.settings.arguments[input.tool.name]

_at_most(value, limit) if {
	is_number(value)
	value <= limit
}

# The highest limit over the principal's roles, null if none of them has one.
_limit(limits) := max(reached) if {
	reached := {limits[role] | some role in input.principal.roles}
} else := null

_own(value) if _own_address(value)

_own(value) if {
	is_array(value)
	every address in value { _own_address(address) }
}

# One plain address: a display name, a list in one string or a second @ is foreign.
_own_address(address) if {
	is_string(address)
	[name, domain] := split(address, "@")
	regex.match(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+$`, name)
	domain != ""
	lower(domain) == lower(input.principal.attributes.domain)
}
