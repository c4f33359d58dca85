"""Policies in the shapes of section 16, in our own words: what a team might bring along."""

from pathlib import Path

from tests.e2e.rig import Rig

HEAD = """# METADATA
# title: Own
# description: A policy of a team's own.
# schemas:
#   - input: schema.input
package sidegate.policies.{name}

import rego.v2

"""

# F06, C037: two reasons of one name can be true at once, and then the whole evaluation fails.
CONFLICTED = """deny contains {"code": _why} if _why

_why := "user_set" if {
	input.tool.name == "conflict"
	contains(json.marshal(input.call.arguments), "user")
}

_why := "not_exposed" if {
	input.tool.name == "conflict"
	contains(json.marshal(input.call.arguments), "hidden")
}
"""

# F09: many reasons, long ones.
TALKATIVE = """deny contains {"code": $"reason_{number}", "message": "a sentence"} if {
	input.tool.name == "talk"
	some number in numbers.range(1, input.call.arguments.text)
}

deny contains {"code": "long", "message": _long} if input.tool.name == "talk_long"

_long := concat("", ["x" | some _ in numbers.range(1, input.call.arguments.text)])
"""

# F08: deny if an argument is in a list, and nothing is said for when it is not there.
CURRENCIES = """deny contains {"code": "currency_blocked"} if {
	input.tool.name == "pay"
	input.call.arguments.currency in {"RUB", "KPW"}
}
"""

OWN = {"conflicted": CONFLICTED, "talkative": TALKATIVE, "currencies": CURRENCIES}


def bring(rig: Rig, policies: dict[str, str], *, mode: str = "enforce") -> Path:
    """Write policies into a folder that the settings name, and list them. Returns the folder."""
    folder = rig.folder / "own"
    for name, text in policies.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{name}.rego").write_text(text if "package" in text else HEAD.replace("{name}", name) + text)
        rig.policy["policies"][name] = mode
    rig.settings["policy_folders"] = ["own"]
    return folder
