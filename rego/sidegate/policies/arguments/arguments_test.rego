package sidegate.policies.arguments_test

import data.sidegate.policies.arguments
import rego.v2

_limits := {"create_order": {"limits": {"amount": {"buyer": 100, "lead": 1000}}}}

_domains := {"send_mail": {"own_domain": ["to"]}}

_order(roles, call_arguments) := {
	"call": {"arguments": call_arguments},
	"tool": {"name": "create_order"},
	"principal": {"roles": roles, "attributes": {}},
}

_mail(to, domain) := {
	"call": {"arguments": {"to": to}},
	"tool": {"name": "send_mail"},
	"principal": {"roles": [], "attributes": {"domain": domain}},
}

_over(limit) := {{
	"code": "over_limit",
	"message": $"amount is over your limit of {limit}",
	"fix": $"lower amount to at most {limit}, or ask somebody with a higher limit",
	"details": {"argument": "amount", "limit": limit},
}}

_foreign := {{
	"code": "foreign_domain",
	"message": "to may only hold addresses of your own domain",
	"details": {"argument": "to"},
}}

_unset := {{"code": "no_limit", "message": "no role of yours may set amount", "details": {"argument": "amount"}}}

test_deny_at_the_limit if {
	arguments.deny == set() with input as _order(["buyer"], {"amount": 100})
		with data.sidegate.settings.arguments as _limits
}

test_deny_over_the_limit if {
	arguments.deny == _over(100) with input as _order(["buyer"], {"amount": 100.5})
		with data.sidegate.settings.arguments as _limits
}

test_deny_highest_limit_of_the_roles_counts if {
	arguments.deny == set() with input as _order(["buyer", "lead"], {"amount": 1000})
		with data.sidegate.settings.arguments as _limits
	arguments.deny == _over(1000) with input as _order(["buyer", "lead"], {"amount": 1001})
		with data.sidegate.settings.arguments as _limits
}

test_deny_amount_absent[name] if {
	some name, call_arguments in {
		"absent": {},
		"null": {"amount": null},
		"text": {"amount": "1"},
		"list": {"amount": [1]},
	}
	arguments.deny == _over(100) with input as _order(["buyer"], call_arguments)
		with data.sidegate.settings.arguments as _limits
}

test_deny_role_without_a_limit[name] if {
	some name, roles in {"other role": ["visitor"], "no role": [], "null": null}
	arguments.deny == _unset with input as _order(roles, {"amount": 1}) with data.sidegate.settings.arguments as _limits
}

test_deny_roles_absent if {
	arguments.deny == _unset with input as json.remove(_order([], {"amount": 1}), ["principal/roles"])
		with data.sidegate.settings.arguments as _limits
}

test_deny_other_tools_are_free if {
	arguments.deny == set() with input as _order([], {"amount": 10000}) with data.sidegate.settings.arguments as _domains
}

test_deny_own_domain[name] if {
	some name, to in {"one": "a@acme.example", "upper case": "A@ACME.example", "list": ["a@acme.example"], "none": []}
	arguments.deny == set() with input as _mail(to, "acme.example") with data.sidegate.settings.arguments as _domains
}

test_deny_foreign_domain[name] if {
	some name, to in {
		"other": "a@other.example",
		"one of two": ["a@acme.example", "b@other.example"],
		"two in one": "b@other.example,a@acme.example",
		"second @": "b@other.example@acme.example",
		"subdomain": "a@evil.acme.example",
		"no address": "acme.example",
		"no name": "@acme.example",
		"null": null,
		"number": 7,
		"nested": [["a@acme.example"]],
		"object": {"x": "a@acme.example"},
	}
	arguments.deny == _foreign with input as _mail(to, "acme.example") with data.sidegate.settings.arguments as _domains
}

test_deny_domain_absent[name] if {
	some name, attributes in {"absent": {}, "null": {"domain": null}, "empty": {"domain": ""}}
	document := object.union(_mail("a@", ""), {"principal": {"attributes": attributes}})
	arguments.deny == _foreign with input as document with data.sidegate.settings.arguments as _domains
}

test_deny_no_recipient_is_no_leak if {
	arguments.deny == set() with input as json.remove(_mail("", "acme.example"), ["call/arguments/to"])
		with data.sidegate.settings.arguments as _domains
}
