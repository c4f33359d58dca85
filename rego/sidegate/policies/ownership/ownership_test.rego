package sidegate.policies.ownership_test

import data.sidegate.policies.ownership
import rego.v2

_resource := {"argument": "order.id", "type": "order", "id": "7", "owner": null, "tenant": "acme", "seen_in_call": null}

_input := {
	"call": {"arguments": {"order": {"id": 7}}},
	"tool": {"records": ["order.id"]},
	"principal": {"tenant": "acme", "roles": ["support"]},
	"resources": [_resource],
}

_denied(foreign) := {{
	"code": "record_not_found",
	"message": "order.id names no record that you can use",
	"details": {"argument": "order.id", "foreign": foreign},
}}

_resources(changes) := object.union(_input, {"resources": [object.union(_resource, change) | some change in changes]})

test_deny_own_record if {
	ownership.deny == set() with input as _input with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_foreign_record[name] if {
	some name, tenant in {"other": "other", "null": null, "empty": "", "unknown": "unknown", "number": 7}
	ownership.deny == _denied(true) with input as _resources([{"tenant": tenant}])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_tenants_that_are_both_unknown[name] if {
	some name, tenant in {"null": null, "empty": "", "unknown": "unknown"}
	document := object.union(_resources([{"tenant": tenant}]), {"principal": {"tenant": tenant}})
	ownership.deny == _denied(true) with input as document with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_tenant_absent if {
	ownership.deny == _denied(true) with input as json.remove(_input, ["principal/tenant"])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
	ownership.deny == _denied(true) with input as json.remove(_input, ["resources/0/tenant"])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_not_looked_up if {
	ownership.deny == _denied(false) with input as _resources([])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_named_in_part if {
	document := object.union(json.remove(_input, ["call/arguments/order/id"]), {"resources": []})
	ownership.deny == _denied(false) with input as document with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_resources_absent if {
	ownership.deny == _denied(false) with input as json.remove(_input, ["resources"])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_another_id_looked_up if {
	ownership.deny == _denied(false) with input as _resources([{"id": "8"}])
		with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_argument_of_a_record_absent if {
	document := json.remove(_resources([{}, {"tenant": "other"}]), ["resources/1/argument"])
	ownership.deny == _denied(false) with input as document with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_looked_up_yet_not_declared if {
	document := object.union(_resources([{"tenant": "other"}]), {"tool": {"records": []}})
	ownership.deny == _denied(true) with input as document with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_not_named if {
	document := object.union(json.remove(_input, ["call/arguments/order"]), {"resources": []})
	ownership.deny == set() with input as document with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_list_of_records if {
	both := object.union(_resources([{}, {"id": "8"}]), {"call": {"arguments": {"order": {"id": [7, "8"]}}}})
	ownership.deny == set() with input as both with data.sidegate.settings.ownership as {"any_tenant": {}}
	one := object.union(_resources([{}]), {"call": {"arguments": {"order": {"id": [7, "8"]}}}})
	ownership.deny == _denied(false) with input as one with data.sidegate.settings.ownership as {"any_tenant": {}}
}

test_deny_role_for_every_tenant if {
	ownership.deny == set() with input as _resources([{"tenant": "other"}])
		with data.sidegate.settings.ownership as {"any_tenant": {"support": true}}
	ownership.deny == _denied(true) with input as _resources([{"tenant": null}])
		with data.sidegate.settings.ownership as {"any_tenant": {"support": true}}
}
