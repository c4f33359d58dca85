package sidegate.policies.review_test

import data.sidegate.policies.review
import rego.v2

_settings := {
	"free_effects": {"read": true, "write": true},
	"free_risks": {"low": true, "undeclared": true},
	"effects": {"admin": ["platform"]},
	"risks": {"high": ["board"]},
	"approvers": ["operations"],
}

_said(effect, risk) := said if {
	said := {[said.code, said.message, said.approvers, said.scope] | some said in review.review}
		with input as {"tool": {"effect": effect, "risk": risk}}
		with data.sidegate.settings.review as _settings
}

test_review_free if _said("read", "low") == set()

test_review_undeclared_risk if {
	_said("read", null) == set()
	review.review != set() with input as {"tool": {"effect": "read", "risk": null}}
		with data.sidegate.settings.review as object.union(_settings, {"free_risks": {"undeclared": false}})
}

test_review_effect if {
	_said("admin", "low") == {[
		"effect_needs_person",
		"a call with effect admin needs a person's yes",
		["platform"],
		"once",
	]}
	_said("send", "low") == {[
		"effect_needs_person",
		"a call with effect send needs a person's yes",
		["operations"],
		"once",
	]}
}

test_review_risk if {
	_said("read", "high") == {["risk_needs_person", "a call with risk high needs a person's yes", ["board"], "once"]}
	_said("read", "odd") == {["risk_needs_person", "a call with risk odd needs a person's yes", ["operations"], "once"]}
}

test_review_absent[name] if {
	some name, document in {"no tool": {}, "empty tool": {"tool": {}}, "null": {"tool": {"effect": null, "risk": 7}}}
	codes := {reason.code | some reason in review.review} with input as document
		with data.sidegate.settings.review as _settings
	codes == {"effect_needs_person", "risk_needs_person"}
}

test_review_settings_absent if {
	said := {[reason.code, reason.approvers] | some reason in review.review}
		with input as {"tool": {"effect": "read", "risk": "low"}}
		with data.sidegate.settings as {}
	said == {["effect_needs_person", []], ["risk_needs_person", []]}
}
