# METADATA
# title: Decision
# description: Combines what the listed policies say about one tool call. The only place that knows precedence.
# schemas:
#   - input: schema.input
package sidegate.decision

import rego.v2

# METADATA
# title: The answer to the proxy
# description: What each policy said stays as it was said, under its name; the proxy flattens it and reads it strictly.
# entrypoint: true
decision := {
	"schema": 1,
	"effect": _effect,
	"guards": _guards,
	"deny": _deny,
	"review": _review,
	"allow": _allow,
	"obligations": _obligations,
	"warn": _warn,
	"revision": data.sidegate.settings.revision,
}

# METADATA
# title: What policies on trial would have said
# description: Asked apart from the decision, so that a policy on trial can neither fail nor slow a call.
# entrypoint: true
shadow := {id: {"deny": deny, "review": review} |
	some id, "shadow" in data.sidegate.settings.policies
	deny := {reason | some reason in data.sidegate.policies[id].deny}
	review := {reason | some reason in data.sidegate.policies[id].review}
}

# METADATA
# title: Names of the tools that a principal may see
# description: By authorization only. A granting policy shows a tool, and no other policy that speaks leaves it out.
# schemas:
#   - input: schema.visible
# entrypoint: true
visible := {name |
	_settings_present
	_policies_present
	some id in _listed
	data.sidegate.settings.granting[id]
	not _warns(id)
	some name in data.sidegate.policies[id].visible
	is_string(name)
	not _hidden(name)
}

# METADATA
# title: Loaded but not listed, or listed but not loaded
# description: Asked once per revision, before the proxy is ready.
# entrypoint: true
mismatch := _unlisted | _unloaded

_unlisted := {id | data.sidegate.policies[id]; not data.sidegate.settings.policies[id]}

_unloaded := {id | data.sidegate.settings.policies[id]; not data.sidegate.policies[id]}

default _effect := "deny"

_effect := _granted if {
	_guards == set()
	_deny == {}
	_allow != {}
}

default _granted := "review"

_granted := "allow" if _review == {}

_granted := "allow" if _approved

# A mode that is misspelt or null counts as enforce.
_listed := {id | some id, mode in data.sidegate.settings.policies; mode != "shadow"}

_warns(id) if data.sidegate.settings.policies[id] == "warn"

_says_deny := {id: said | some id in _listed; said := data.sidegate.policies[id].deny}

_says_review := {id: said | some id in _listed; said := data.sidegate.policies[id].review}

_says_allow := {id: said | some id in _listed; said := data.sidegate.policies[id].allow}

# Anything but an empty set counts as said: a deny of the wrong type still denies.
_deny := {id: said | some id, said in _says_deny; said != set(); not _warns(id)}

_review := {id: said | some id, said in _says_review; said != set(); not _warns(id)}

_allow := {id: said | some id, said in _says_allow; said != set(); not _warns(id)}

_obligations := {id: said |
	some id in _listed
	said := data.sidegate.policies[id].obligations
	said != set()
	not _warns(id)
}

# Notes: what policies of mode warn would have said, and what rules of an enforced policy only remark.
_warn := {id: {"deny": deny, "review": review, "warn": remarks} |
	some id in _noting
	deny := {said | some said in _says_deny[id]; _warns(id)}
	review := {said | some said in _says_review[id]; _warns(id)}
	remarks := {said | some said in data.sidegate.policies[id].warn}
}

_noting contains id if some id, "warn" in data.sidegate.settings.policies

_noting contains id if {
	some id in _listed
	data.sidegate.policies[id].warn != set()
}

# The reviewer, who is not the principal, said yes to each of these reasons. What else binds it is the proxy's part.
_approved if {
	is_string(input.approval.by)
	is_string(input.principal.id)
	count({"", input.approval.by, input.principal.id}) == 3
	every id, said in _review {
		is_set(said)
		every reason in said {
			reason in input.approval.covers[id]
		}
	}
}

_hidden(name) if {
	some id in _listed
	not data.sidegate.settings.granting[id]
	not _warns(id)
	shown := data.sidegate.policies[id].visible
	not name in shown
}

_guards contains "settings_missing" if not _settings_present

_guards contains "policy_missing" if not _policies_present

_guards contains "fact_missing" if not _facts_present

_guards contains "grant_misplaced" if {
	some id, said in _allow
	not _may_grant(id, said)
}

_may_grant(id, said) if {
	data.sidegate.settings.granting[id]
	is_set(said)
}

_settings_present if {
	data.sidegate.settings.schema == 1
	is_string(data.sidegate.settings.revision)
}

# Every listed policy is loaded: it exports something, be it empty.
_policies_present if {
	_listed != set()
	(object.keys(_says_deny) | object.keys(_says_review)) | object.keys(_says_allow) == _listed
}

# Facts whose absence would loosen a rule are there and of their type; where absence only tightens, no line is needed.
_facts_present if {
	input.tool.name == input.call.tool
	_marks_agree
	is_object(input.call.arguments)
	is_array(input.tool.records)
	is_object(input.conversation.marks)
	is_array(input.conversation.calls)
	is_array(input.resources)
	is_object(input.grounding)
	regex.match(`^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`, input.environment.now)
}

# Rules are keyed by mark: marks that lost one would silently switch rules off.
_marks_agree if {
	$"system:{input.tool.system}" in input.tool.marks
	$"effect:{input.tool.effect}" in input.tool.marks
	count(input.tool.marks) == 2 + count(input.tool.labels)
}
