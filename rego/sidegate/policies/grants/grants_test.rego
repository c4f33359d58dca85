package sidegate.policies.grants_test

import data.sidegate.policies.grants
import rego.v2

_reason := {"code": "granted", "message": "granted to role buyer", "details": {"role": "buyer"}}

_plain := {"role": "buyer", "reason": _reason, "bounds": []}

_bounded(bounds) := object.union(_plain, {"bounds": bounds})

_max := {"argument": "quantity", "says": "at most 50", "max": 50}

_min := {"argument": "quantity", "says": "at least 1", "min": 1}

_choice := {"argument": "currency", "says": "one of EUR", "one_of": ["EUR"]}

_by_tool(cells) := {"tools": {"create_order": {"buyer": cells}}, "systems": {}}

_by_system(cells) := {"tools": {}, "systems": {"purchasing": {"write": {"buyer": cells}}}}

_input := {
	"call": {"arguments": {"quantity": 5, "currency": "EUR"}},
	"tool": {"name": "create_order", "system": "purchasing", "effect": "write"},
	"agent": {"namespace": "purchasing", "service_account": "buyer-agent", "spiffe_id": null},
	"principal": {"roles": ["buyer"]},
	"environment": {"now": "2026-11-25T10:00:00.000000Z"},
}

_with(changes) := object.union(_input, changes)

_asks(approvers, scope) := object.union(_plain, {"review": {"approvers": approvers, "scope": scope}})

test_allow_named_tool if {
	grants.allow == {_reason} with input as _input with data.sidegate.settings.grants as _by_tool([_plain])
}

test_allow_system_wildcard if {
	grants.allow == {_reason} with input as _input with data.sidegate.settings.grants as _by_system([_plain])
}

test_allow_named_tool_hides_wildcard if {
	matrix := object.union(_by_system([_plain]), {"tools": {"create_order": {}}})
	grants.allow == set() with input as _input with data.sidegate.settings.grants as matrix
}

test_allow_other_role if {
	grants.allow == set() with input as _with({"principal": {"roles": ["visitor"]}})
		with data.sidegate.settings.grants as _by_tool([_plain])
}

test_allow_roles_absent if {
	grants.allow == set() with input as json.remove(_input, ["principal/roles"])
		with data.sidegate.settings.grants as _by_tool([_plain])
}

test_deny_out_of_bounds[name] if {
	some name, arguments in {
		"above": {"quantity": 51},
		"below": {"quantity": 0},
		"no number": {"quantity": "5"},
		"null": {"quantity": null},
		"no choice": {"currency": "XXX"},
	}
	codes := {reason.code | some reason in grants.deny} with input as _with({"call": {"arguments": arguments}})
		with data.sidegate.settings.grants as _by_tool([_bounded([_max, _min, _choice])])
	codes == {"out_of_bounds"}
}

test_deny_out_of_bounds_says_the_bound if {
	said := {[said.message, said.fix, said.details.argument] | some said in grants.deny}
		with input as _with({"call": {"arguments": {"quantity": 51}}})
		with data.sidegate.settings.grants as _by_tool([_bounded([_max])])
	said == {[
		"role buyer may use create_order only with quantity at most 50",
		"change quantity to be at most 50, or ask somebody whose role reaches further",
		"quantity",
	]}
}

test_deny_out_of_bounds_absent[name] if {
	some name in ["call/arguments/quantity", "call/arguments", "call"]
	codes := {reason.code | some reason in grants.deny} with input as json.remove(_input, [name])
		with data.sidegate.settings.grants as _by_tool([_bounded([_max])])
	codes == {"out_of_bounds"}
}

test_deny_out_of_bounds_one_bound_alone[name] if {
	some name, case in {
		"null below a maximum": {"bound": _max, "value": null},
		"text above a minimum": {"bound": _min, "value": "5"},
	}
	codes := {reason.code | some reason in grants.deny}
		with input as _with({"call": {"arguments": {"quantity": case.value}}})
		with data.sidegate.settings.grants as _by_tool([_bounded([case.bound])])
	codes == {"out_of_bounds"}
}

test_deny_out_of_bounds_tells_what_was_missed if {
	missed := {reason.details.argument | some reason in grants.deny}
		with input as _with({"call": {"arguments": {"currency": "XXX"}}})
		with data.sidegate.settings.grants as _by_tool([_bounded([_max, _min, _choice])])
	missed == {"currency"}
}

test_deny_another_grant_covers if {
	elsewhere := object.union(_plain, {"agents": {"other/agent": true}})
	ended := object.union(_plain, {"until": "2026-01-01"})
	grants.deny == set() with input as _input
		with data.sidegate.settings.grants as _by_tool([elsewhere, ended, _plain])
}

test_deny_within_bounds if {
	grants.deny == set() with input as _input
		with data.sidegate.settings.grants as _by_tool([_bounded([_max, _min, _choice])])
}

test_deny_second_grant_covers if {
	grants.deny == set() with input as _with({"call": {"arguments": {"quantity": 51}}})
		with data.sidegate.settings.grants as _by_tool([_bounded([_max]), _asks(["leads"], "once")])
}

_named_agent := object.union(_plain, {"agents": {
	"purchasing/buyer-agent": true,
	"null/buyer-agent": true,
	"purchasing/null": true,
	"spiffe://corp.example/buyer": true,
}})

test_deny_agent_covered[name] if {
	some name, agent in {
		"by service account": {},
		"by SPIFFE id": {"service_account": null, "spiffe_id": "spiffe://corp.example/buyer"},
	}
	grants.deny == set() with input as _with({"agent": agent})
		with data.sidegate.settings.grants as _by_tool([_named_agent])
}

test_deny_agent_not_covered[name] if {
	some name, agent in {
		"other namespace": {"namespace": "sales"},
		"null namespace": {"namespace": null},
		"null service account": {"service_account": null},
		"other SPIFFE id": {"namespace": null, "spiffe_id": "spiffe://corp.example/other"},
	}
	said := grants.deny with input as _with({"agent": agent})
		with data.sidegate.settings.grants as _by_tool([_named_agent])
	said == {{
		"code": "agent_not_covered",
		"message": "role buyer may not use create_order through this agent",
		"details": {"role": "buyer"},
	}}
}

test_deny_agent_absent if {
	codes := {reason.code | some reason in grants.deny} with input as json.remove(_input, ["agent"])
		with data.sidegate.settings.grants as _by_tool([_named_agent])
	codes == {"agent_not_covered"}
}

_until(day) := object.union(_plain, {"until": day})

test_deny_grant_lasts if {
	grants.deny == set() with input as _input with data.sidegate.settings.grants as _by_tool([_until("2026-11-26")])
}

test_deny_grant_ended if {
	said := grants.deny with input as _with({"environment": {"now": "2026-11-26T00:00:00.000000Z"}})
		with data.sidegate.settings.grants as _by_tool([_until("2026-11-26")])
	said == {{
		"code": "grant_ended",
		"message": "the grant of create_order to role buyer has ended",
		"details": {"role": "buyer"},
	}}
}

test_deny_grant_ended_absent[name] if {
	some name, document in {
		"no time": json.remove(_input, ["environment/now"]),
		"null time": _with({"environment": {"now": null}}),
	}
	codes := {reason.code | some reason in grants.deny} with input as document
		with data.sidegate.settings.grants as _by_tool([_until("2026-11-26")])
	codes == {"grant_ended"}
}

test_review_all_grants_ask if {
	said := grants.review with input as _input
		with data.sidegate.settings.grants as _by_tool([_asks(["leads", "ops"], "conversation"), _asks(["board"], "once")])
	said == {{
		"code": "grant_needs_review",
		"message": "create_order needs a person's yes for your role",
		"approvers": ["board", "leads", "ops"],
		"scope": "once",
	}}
}

test_review_one_grant_is_free if {
	grants.review == set() with input as _input
		with data.sidegate.settings.grants as _by_tool([_asks(["leads"], "once"), _plain])
}

test_review_scope[effect] if {
	some effect, wanted in {"read": "conversation", "write": "once"}
	scopes := {reason.scope | some reason in grants.review} with input as _with({"tool": {"effect": effect}})
		with data.sidegate.settings.grants as _by_tool([_asks(["leads"], "conversation")])
	scopes == {wanted}
}

test_review_scope_of_two_grants if {
	scopes := {reason.scope | some reason in grants.review} with input as _with({"tool": {"effect": "read"}})
		with data.sidegate.settings.grants as _by_tool([_asks(["a"], "conversation"), _asks(["b"], "once")])
	scopes == {"once"}
}

test_review_nothing_covers if {
	grants.review == set() with input as _with({"principal": {"roles": ["visitor"]}})
		with data.sidegate.settings.grants as _by_tool([_asks(["leads"], "once")])
}

test_review_scope_absent if {
	scopes := {reason.scope | some reason in grants.review} with input as json.remove(_input, ["tool/effect"])
		with data.sidegate.settings.grants as _by_tool([_asks(["leads"], "conversation")])
	scopes == {"once"}
}

test_visible_by_tool_and_by_system if {
	tools := [
		{"name": "create_order", "system": "x", "effect": "write"},
		{"name": "get_stock", "system": "inventory", "effect": "read"},
		{"name": "set_stock", "system": "inventory", "effect": "write"},
	]
	matrix := {
		"tools": {"create_order": {"buyer": [_bounded([_max])]}},
		"systems": {"inventory": {"read": {"buyer": [_plain]}}},
	}
	grants.visible == {"create_order", "get_stock"} with input as object.union(_input, {"tools": tools})
		with data.sidegate.settings.grants as matrix
}

test_visible_needs_agent_and_date if {
	tools := [{"name": "create_order", "system": "x", "effect": "write"}]
	document := object.union(_with({"agent": {"namespace": "sales"}}), {"tools": tools})
	grants.visible == set() with input as document with data.sidegate.settings.grants as _by_tool([_named_agent])
	grants.visible == set() with input as document with data.sidegate.settings.grants as _by_tool([_until("2026-01-01")])
}
