"""A team's policy, the folder it stands in, and settings that list it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from proxy.adapters.bundle import Sources

REGO = Path(__file__).parents[2] / "rego"
SAMPLE: Mapping[str, Any] = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())
TEAM = """# METADATA
# title: Team
# description: Says no on Fridays.
# schemas:
#   - input: schema.input
package sidegate.policies.team

import rego.v2

# METADATA
# title: Closed
deny contains {"code": "closed", "message": $"not on {input.environment.now}"} if {
	input.call.tool == "friday"
}
"""


def sample(**listed: str) -> dict[str, Any]:
    """The settings of the shipped samples with policies listed besides."""
    return {**SAMPLE, "policies": {**SAMPLE["policies"], **listed}}


def sources(root: Path, rego: str = TEAM) -> Sources:
    """The shipped policies and one of a team."""
    folder = root / "own" / "team"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "team.rego").write_text(rego)
    return Sources(shipped=REGO, own=(root / "own",))
