# METADATA
# title: Review
# description: Effects and risks that a person must always see.
# schemas:
#   - input: schema.input
package sidegate.policies.review

import rego.v2

# METADATA
# title: An effect that a person must see
review contains {
	"code": "effect_needs_person",
	"message": $"a call with effect {input.tool.effect} needs a person's yes",
	"approvers": _effect_approvers,
	"scope": "once",
} if {
	not data.sidegate.settings.review.free_effects[input.tool.effect]
}

# METADATA
# title: A risk that a person must see
review contains {
	"code": "risk_needs_person",
	"message": $"a call with risk {_risk} needs a person's yes",
	"approvers": _risk_approvers,
	"scope": "once",
} if {
	not data.sidegate.settings.review.free_risks[_risk]
}

default _risk := "unknown"

_risk := "undeclared" if is_null(input.tool.risk)

_risk := input.tool.risk if not is_null(input.tool.risk)

default _effect_approvers := []

_effect_approvers := named if {
	named := data.sidegate.settings.review.effects[input.tool.effect]
} else := data.sidegate.settings.review.approvers

default _risk_approvers := []

_risk_approvers := named if {
	named := data.sidegate.settings.review.risks[_risk]
} else := data.sidegate.settings.review.approvers
