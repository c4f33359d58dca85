# METADATA
# title: Ownership
# description: A record that a call names is the principal's tenant's, by a fact source. Not owned reads as not found.
# schemas:
#   - input: schema.input
package sidegate.policies.ownership

import rego.v2

# METADATA
# title: A record of another tenant, or of nobody known
deny contains {
	"code": "record_not_found",
	"message": $"{argument} names no record that you can use",
	"details": {"argument": argument, "foreign": argument in _foreign},
} if {
	some argument in _asked
	not _owned(argument)
}

# Record arguments that the call names (a nested one as soon as its first key is there), and whatever was looked up.
_asked contains argument if {
	some argument in input.tool.records
	split(argument, ".")[0] in object.keys(input.call.arguments)
}

_asked contains resource.argument if some resource in input.resources

# An argument may name many records: each was looked up, and each is the tenant's own.
_owned(argument) if {
	found := {resource.id | some resource in input.resources; resource.argument == argument}
	found != set()
	_ids(argument) - found == set()
	not argument in _foreign
	every resource in input.resources { is_string(resource.argument) }
}

_ids(argument) := {$"{id}" | some id in value} if {
	value := object.get(input.call.arguments, split(argument, "."), [])
	is_array(value)
} else := {$"{object.get(input.call.arguments, split(argument, "."), [])}"}

_foreign contains resource.argument if {
	some resource in input.resources
	not _ours(resource.tenant)
}

_ours(tenant) if {
	_known(tenant)
	tenant == input.principal.tenant
}

_ours(tenant) if {
	_known(tenant)
	some role in input.principal.roles
	data.sidegate.settings.ownership.any_tenant[role]
}

# The unknown tenant equals none.
_known(tenant) if {
	is_string(tenant)
	not tenant in {"", "unknown"}
}
