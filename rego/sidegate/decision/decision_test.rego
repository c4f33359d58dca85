package sidegate.decision_test

import data.sidegate.decision
import rego.v2

_settings := {
	"schema": 1,
	"revision": "r1",
	"policies": {"gate": "enforce", "rule": "enforce"},
	"granting": {"gate": true},
}

_yes := {"gate": {"allow": {{"code": "granted"}}, "deny": set()}}

_input := {
	"call": {"tool": "t", "arguments": {}},
	"tool": {
		"name": "t",
		"system": "s",
		"effect": "read",
		"labels": ["l"],
		"marks": ["system:s", "effect:read", "label:l"],
		"records": [],
	},
	"principal": {"id": "u-1", "roles": []},
	"conversation": {"marks": {}, "calls": []},
	"resources": [],
	"grounding": {},
	"approval": null,
	"environment": {"now": "2026-11-25T10:00:00.000000Z"},
}

_held := {"code": "h", "message": "m", "details": {"marks": ["a"]}}

_decide(policies, document) := answer if {
	answer := decision.decision with input as document
		with data.sidegate.settings as _settings
		with data.sidegate.policies as object.union(_yes, policies)
}

_moded(mode, policies) := answer if {
	answer := decision.decision with input as _input
		with data.sidegate.settings as object.union(_settings, {"policies": {"rule": mode}})
		with data.sidegate.policies as object.union(_yes, policies)
}

_approved(approval) := object.union(_input, {"approval": approval})

test_decision_whole_answer if {
	_decide({"rule": {"deny": set(), "obligations": {{"kind": "redact"}}}}, _input) == {
		"schema": 1,
		"effect": "allow",
		"guards": set(),
		"deny": {},
		"review": {},
		"allow": {"gate": {{"code": "granted"}}},
		"obligations": {"rule": {{"kind": "redact"}}},
		"warn": {},
		"revision": "r1",
	}
}

test_decision_nothing_said_is_left_out if {
	said := {"deny": set(), "review": set(), "obligations": set(), "warn": set()}
	answer := _decide({"rule": said}, _input)
	[answer.deny, answer.review, answer.obligations, answer.warn] == [{}, {}, {}, {}]
}

test_decision_deny_over_review_over_allow if {
	_decide({"rule": {"deny": {{"code": "d"}}, "review": {_held}}}, _input).effect == "deny"
	_decide({"rule": {"review": {_held}}}, _input).effect == "review"
}

test_decision_nothing_granted if {
	answer := _decide({"gate": {"allow": set()}, "rule": {"deny": set()}}, _input)
	[answer.effect, answer.guards, answer.allow] == ["deny", set(), {}]
}

test_decision_deny_of_any_type[name] if {
	some name, said in {
		"true": true,
		"false": false,
		"object": {"c": "m"},
		"list": ["d"],
		"empty list": [],
		"text": "d",
		"null": null,
	}
	_decide({"rule": {"deny": said}}, _input).effect == "deny"
}

test_decision_approval if {
	covered := {"by": "r-1", "covers": {"rule": [_held]}}
	_decide({"rule": {"review": {_held}}}, _approved(covered)).effect == "allow"
	_decide({"rule": {"review": {_held}, "deny": {{"code": "d"}}}}, _approved(covered)).effect == "deny"
}

test_decision_approval_does_not_cover[name] if {
	some name, approval in {
		"another message": {"by": "r-1", "covers": {"rule": [object.union(_held, {"message": "n"})]}},
		"another policy": {"by": "r-1", "covers": {"other": [_held]}},
		"nothing": {"by": "r-1", "covers": {}},
		"covers absent": {"by": "r-1"},
		"by absent": {"covers": {"rule": [_held]}},
		"by null": {"by": null, "covers": {"rule": [_held]}},
		"by empty": {"by": "", "covers": {"rule": [_held]}},
		"own": {"by": "u-1", "covers": {"rule": [_held]}},
	}
	_decide({"rule": {"review": {_held}}}, _approved(approval)).effect == "review"
}

test_decision_approval_without_principal if {
	document := _approved({"by": "r-1", "covers": {"rule": [_held]}})
	_decide({"rule": {"review": {_held}}}, json.remove(document, ["principal/id"])).effect == "review"
	nobody := object.union(document, {"principal": {"id": null}})
	_decide({"rule": {"review": {_held}}}, nobody).effect == "review"
}

test_decision_approval_of_another_type if {
	document := _approved({"by": "r-1", "covers": {"rule": [_held]}})
	_decide({"rule": {"review": [_held]}}, document).effect == "review"
	_decide({"rule": {"review": {"x": _held}}}, document).effect == "review"
}

test_decision_approval_of_one_reason_of_two if {
	approval := {"by": "r-1", "covers": {"rule": [_held]}}
	_decide({"rule": {"review": {_held, {"code": "new"}}}}, _approved(approval)).effect == "review"
	_decide({"rule": {"review": true}}, _approved({"by": "r-1", "covers": {"rule": [true]}})).effect == "review"
}

test_decision_modes[name] if {
	some name, mode in {"enforce": "enforce", "misspelt": "enforced", "null": null, "upper case": "Warn"}
	_moded(mode, {"rule": {"deny": {{"code": "d"}}}}).effect == "deny"
}

test_decision_warn_mode_notes if {
	said := {"deny": {{"code": "d"}}, "review": {_held}, "allow": {{"code": "a"}}, "obligations": {1}}
	answer := _moded("warn", {"rule": said})
	answer.effect == "allow"
	answer.warn == {"rule": {"deny": {{"code": "d"}}, "review": {_held}, "warn": set()}}
	[answer.deny, answer.review, answer.obligations] == [{}, {}, {}]
}

test_decision_remark_of_an_enforced_policy if {
	answer := _decide({"rule": {"deny": set(), "warn": {{"code": "n"}}}}, _input)
	answer.effect == "allow"
	answer.warn == {"rule": {"deny": set(), "review": set(), "warn": {{"code": "n"}}}}
}

test_decision_warn_mode_grants_nothing if {
	answer := decision.decision with input as _input
		with data.sidegate.settings as object.union(_settings, {"policies": {"gate": "warn"}})
		with data.sidegate.policies as object.union(_yes, {"rule": {"deny": set()}})
	answer.effect == "deny"
}

test_guard_grant_misplaced[name] if {
	some name, policies in {
		"another policy": {"rule": {"allow": {{"code": "a"}}}},
		"another type": {"gate": {"allow": [{"code": "a"}]}, "rule": {"deny": set()}},
	}
	answer := _decide(policies, _input)
	[answer.effect, answer.guards] == ["deny", {"grant_misplaced"}]
}

test_guard_policy_missing if {
	answer := _decide({}, _input)
	[answer.effect, answer.guards] == ["deny", {"policy_missing"}]
	_decide({"rule": {"denies": {{"code": "d"}}}}, _input).guards == {"policy_missing"}
}

test_guard_no_policies if {
	answer := decision.decision with input as _input
		with data.sidegate.settings as json.remove(_settings, ["policies"])
		with data.sidegate.policies as _yes
	[answer.effect, answer.guards] == ["deny", {"policy_missing"}]
}

test_guard_settings_missing[name] if {
	some name, settings in {
		"another schema": object.union(_settings, {"schema": 2}),
		"null schema": object.union(_settings, {"schema": null}),
		"schema absent": json.remove(_settings, ["schema"]),
		"revision null": object.union(_settings, {"revision": null}),
	}
	answer := decision.decision with input as _input
		with data.sidegate.settings as settings
		with data.sidegate.policies as object.union(_yes, {"rule": {"deny": set()}})
	[answer.effect, answer.guards] == ["deny", {"settings_missing"}]
}

test_decision_undefined_without_revision if {
	not decision.decision with input as _input
		with data.sidegate.settings as json.remove(_settings, ["revision"])
		with data.sidegate.policies as object.union(_yes, {"rule": {"deny": set()}})
}

test_guard_fact_missing[path] if {
	some path in [
		"call",
		"call/tool",
		"call/arguments",
		"tool",
		"tool/name",
		"tool/system",
		"tool/effect",
		"tool/labels",
		"tool/marks",
		"tool/marks/0",
		"tool/marks/1",
		"tool/marks/2",
		"tool/records",
		"conversation",
		"conversation/marks",
		"conversation/calls",
		"resources",
		"grounding",
		"environment/now",
	]
	answer := _decide({"rule": {"deny": set()}}, json.remove(_input, [path]))
	[answer.effect, answer.guards] == ["deny", {"fact_missing"}]
}

test_guard_fact_of_another_type[name] if {
	some name, change in {
		"arguments": {"call": {"arguments": null}},
		"tool": {"call": {"tool": "u"}},
		"records": {"tool": {"records": null}},
		"marks of the conversation": {"conversation": {"marks": []}},
		"calls": {"conversation": {"calls": {}}},
		"resources": {"resources": null},
		"grounding": {"grounding": null},
		"now is no time": {"environment": {"now": ""}},
		"now is of another zone": {"environment": {"now": "2026-11-25T10:00:00+02:00"}},
	}
	answer := _decide({"rule": {"deny": set()}}, object.union(_input, change))
	[answer.effect, answer.guards] == ["deny", {"fact_missing"}]
}

test_guard_input_missing if {
	decision.decision.effect == "deny" with data.sidegate.settings as _settings
		with data.sidegate.policies as object.union(_yes, {"rule": {"deny": set()}})
}

test_shadow_says_what_it_would if {
	settings := object.union(_settings, {"policies": {"rule": "shadow"}})
	policies := object.union(_yes, {"rule": {"deny": {{"code": "d"}}, "review": {_held}}})
	decision.shadow == {"rule": {"deny": {{"code": "d"}}, "review": {_held}}} with input as _input
		with data.sidegate.settings as settings
		with data.sidegate.policies as policies
	decision.decision.effect == "allow" with input as _input
		with data.sidegate.settings as settings
		with data.sidegate.policies as policies
}

test_shadow_of_another_type if {
	decision.shadow == {"rule": {"deny": set(), "review": set()}} with input as _input
		with data.sidegate.settings as object.union(_settings, {"policies": {"rule": "shadow"}})
		with data.sidegate.policies as {"rule": {"deny": true, "review": "x"}}
}

_visible(policies, modes) := names if {
	names := decision.visible with input as {"tools": []}
		with data.sidegate.settings as object.union(_settings, {"policies": modes})
		with data.sidegate.policies as policies
}

test_visible_by_the_granting_policy if {
	_visible({"gate": {"allow": set(), "visible": {"a", "b", 7}}, "rule": {"deny": set()}}, {}) == {"a", "b"}
}

test_visible_narrowed_by_another_policy if {
	policies := {"gate": {"allow": set(), "visible": {"a", "b"}}, "rule": {"deny": set(), "visible": {"b", "c"}}}
	_visible(policies, {}) == {"b"}
	_visible(policies, {"rule": "warn"}) == {"a", "b"}
	_visible(policies, {"gate": "warn"}) == set()
}

test_visible_by_one_of_two_granting_policies if {
	decision.visible == {"a", "b"} with input as {"tools": []}
		with data.sidegate.settings as object.union(_settings, {"granting": {"gate": true, "rule": true}})
		with data.sidegate.policies as {"gate": {"allow": set(), "visible": {"a"}}, "rule": {"deny": set(), "visible": {"b"}}}
}

test_visible_nothing_without_settings_or_policies if {
	_visible({"gate": {"allow": set(), "visible": {"a"}}}, {}) == set()
	decision.visible == set() with input as {"tools": []}
		with data.sidegate.settings as object.union(_settings, {"schema": 2})
		with data.sidegate.policies as {"gate": {"allow": set(), "visible": {"a"}}, "rule": {"deny": set()}}
}

test_mismatch if {
	decision.mismatch == {"stranger", "absent"}
		with data.sidegate.policies as {"gate": {"allow": set()}, "stranger": {"deny": set()}}
		with data.sidegate.settings as {"policies": {"gate": "enforce", "absent": "enforce"}}
}
