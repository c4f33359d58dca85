package sidegate.policies.combination_test

import data.sidegate.policies.combination
import rego.v2

_reason := {"code": "triangle", "message": "these three reveal too much", "details": {"marks": ["a", "b", "c"]}}

_rule := {
	"reason": _reason,
	"then": "deny",
	"marks": {"system:inventory": true, "system:suppliers": true, "system:pricing": true},
	"unless": {},
	"off_hours": [],
}

_reviewed := object.union(_rule, {"then": "review", "approvers": ["leads"], "scope": "conversation"})

_keyed(rule) := {mark: [rule] | some mark, _ in rule.marks}

_input := {
	"tool": {"effect": "read", "marks": ["system:pricing", "effect:read"]},
	"agent": {"namespace": "audit", "service_account": "auditor", "spiffe_id": "spiffe://corp.example/audit"},
	"principal": {"roles": ["buyer"]},
	"conversation": {
		"history": "complete",
		"profile": "review",
		"marks": {"system:inventory": 1, "system:suppliers": 2},
		"calls": [],
	},
	"environment": {"now": "2026-11-25T10:00:00.000000Z"},
}

_with(changes) := object.union(_input, changes)

# Two of the three marks are there; what `calls` holds is the third.
_two(calls) := object.union(_less, {"conversation": {"calls": calls}})

_less := json.remove(_input, ["conversation/marks/system:suppliers"])

_call(outcome, system, labels) := {"system": system, "effect": "read", "labels": labels, "outcome": outcome}

test_deny_all_have_met if {
	combination.deny == {_reason} with input as _input with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_one_is_missing if {
	combination.deny == set() with input as _two([]) with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_takes_no_part if {
	mail := _with({"tool": {"marks": ["system:mail", "effect:send"]}})
	document := object.union(mail, {"conversation": {"marks": {"system:pricing": 3}}})
	combination.deny == set() with input as document with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_history_unknown[name] if {
	some name, document in {
		"unknown": object.union(_two([]), {"conversation": {"history": "unknown"}}),
		"null": object.union(_two([]), {"conversation": {"history": null}}),
		"absent": json.remove(_two([]), ["conversation/history"]),
	}
	combination.deny == {_reason} with input as document with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_then_misspelt_counts_as_deny if {
	combination.deny == {_reason} with input as _input
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"then": "dney"}))
}

test_deny_held_call_counts[name] if {
	some name, call in {
		"held": _call("held", "suppliers", []),
		"held, unreadable system": _call("held", null, []),
		"held, empty system": _call("held", "", []),
		"held, unknown effect": object.union(_call("held", "mail", []), {"effect": "x"}),
		"held, no labels": _call("held", "mail", null),
		"held, odd label": _call("held", "mail", [7]),
		"outcome null": _call(null, "suppliers", []),
		"outcome absent": json.remove(_call("held", "suppliers", []), ["outcome"]),
		"null": null,
	}
	combination.deny == {_reason} with input as _two([call]) with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_held_call_of_another_system[outcome] if {
	some outcome in ["held", "executing", "done", "unknown"]
	combination.deny == set() with input as _two([_call(outcome, "mail", ["internal"])])
		with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_held_label_and_effect if {
	marks := {"system:pricing": true, "label:terms": true, "effect:read": true}
	document := _two([_call("held", "mail", ["terms"])])
	combination.deny == {_reason} with input as document
		with data.sidegate.settings.combination as _keyed(object.union(json.remove(_rule, ["marks"]), {"marks": marks}))
}

test_deny_other_calls_count_by_the_summary[outcome] if {
	some outcome in ["executing", "done", "unknown"]
	combination.deny == set() with input as _two([_call(outcome, "suppliers", [])])
		with data.sidegate.settings.combination as _keyed(_rule)
}

test_deny_says_nothing_else if {
	rule := object.union(_reviewed, {"then": "deny"})
	said := combination.review | combination.warn with input as _input
		with data.sidegate.settings.combination as _keyed(rule)
	said == set()
}

test_review_with_approvers if {
	said := combination.review with input as _input with data.sidegate.settings.combination as _keyed(_reviewed)
	said == {object.union(_reason, {"approvers": ["leads"], "scope": "conversation"})}
	combination.deny == set() with input as _input with data.sidegate.settings.combination as _keyed(_reviewed)
}

test_review_scope_is_once_but_for_reads[name] if {
	some name, document in {"write": _with({"tool": {"effect": "write"}}), "absent": json.remove(_input, ["tool/effect"])}
	scopes := {reason.scope | some reason in combination.review} with input as document
		with data.sidegate.settings.combination as _keyed(_reviewed)
	scopes == {"once"}
}

test_warn_is_a_note if {
	rule := object.union(_rule, {"then": "warn"})
	combination.warn == {_reason} with input as _input with data.sidegate.settings.combination as _keyed(rule)
	combination.deny | combination.review == set() with input as _input
		with data.sidegate.settings.combination as _keyed(rule)
}

test_deny_exempt[name] if {
	some name, unless in {
		"role": {"roles": {"buyer": true}},
		"profile": {"profiles": {"review": true}},
		"agent": {"agents": {"audit/auditor": true}},
		"SPIFFE id": {"agents": {"spiffe://corp.example/audit": true}},
	}
	combination.deny == set() with input as _input
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"unless": unless}))
}

test_deny_exempt_absent[name] if {
	some name in ["principal", "agent", "conversation/profile", "principal/roles", "agent/spiffe_id"]
	unless := {"roles": {"x": true}, "profiles": {"x": true}, "agents": {"x": true, "null/null": true}}
	combination.deny == {_reason} with input as json.remove(_input, [name])
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"unless": unless}))
}

test_deny_agent_without_a_name_is_not_exempt[name] if {
	some name, agent in {
		"no namespace": {"namespace": null, "service_account": "auditor"},
		"no service account": {"namespace": "audit", "service_account": null},
	}
	unless := {"agents": {"null/auditor": true, "audit/null": true}}
	combination.deny == {_reason} with input as _with({"agent": agent})
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"unless": unless}))
}

test_deny_until[now] if {
	some now, wanted in {"2026-11-25T23:59:59.999999Z": {_reason}, "2026-11-26T00:00:00.000000Z": set()}
	combination.deny == wanted with input as _with({"environment": {"now": now}})
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"until": "2026-11-26"}))
}

test_deny_hours[now] if {
	some now, wanted in {
		"2026-11-25T06:59:59.999999Z": set(),
		"2026-11-25T07:00:00.000000Z": {_reason},
		"2026-11-25T17:59:00.000000Z": {_reason},
		"2026-11-25T18:00:00.000000Z": set(),
	}
	off := [{"from": "00:00", "to": "07:00"}, {"from": "18:00", "to": "24:00"}]
	combination.deny == wanted with input as _with({"environment": {"now": now}})
		with data.sidegate.settings.combination as _keyed(object.union(_rule, {"off_hours": off}))
}

test_deny_time_absent if {
	rule := object.union(_rule, {"until": "2026-11-26", "off_hours": [{"from": "00:00", "to": "24:00"}]})
	combination.deny == {_reason} with input as json.remove(_input, ["environment"])
		with data.sidegate.settings.combination as _keyed(rule)
}
