"""Rego tests beside a policy: run on the real OPA, told with their place in the author's file."""

from pathlib import Path

import yaml

from proxy.adapters.bundle import Assembled, Sources, assemble
from proxy.adapters.rego_tests import RegoTests, run_tests
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
POLICY = """# METADATA
# title: Closed
# description: Nothing at all.
# schemas:
#   - input: schema.input
package sidegate.policies.closed

import rego.v2

# METADATA
# title: Closed for one tool
deny contains {"code": "closed", "message": "closed"} if {
	input.tool.name == "get_price"
}
"""
TEST = """package sidegate.policies.closed_test

import data.sidegate.policies.closed
import rego.v2

test_deny if {
	count(closed.deny) == 1 with input.tool.name as "get_price"
}
"""


async def report(root: Path, test: str) -> RegoTests:
    """What `opa test` says of our policies and this one."""
    folder = root / "own" / "closed"
    folder.mkdir(parents=True)
    (folder / "closed.rego").write_text(POLICY)
    (folder / "closed_test.rego").write_text(test)
    sources = Sources(shipped=REGO, own=(root / "own",))
    sample = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())
    document = {**sample, "policies": {**sample["policies"], "closed": "enforce"}}
    bundle: Assembled = await assemble(opa_binary(), sources, document, catalog_revision="c1")
    return await run_tests(opa_binary(), sources, bundle)


async def test_tests_that_pass_cover_every_line(tmp_path: Path) -> None:
    told = await report(tmp_path, TEST)
    assert (told.failed, told.uncovered, told.coverage) == ((), (), 100.0)
    assert told.passed > 80


async def test_a_test_that_fails_is_named(tmp_path: Path) -> None:
    told = await report(tmp_path, TEST.replace("== 1", "== 2"))
    assert told.failed == (f"{tmp_path}/own/closed/closed_test.rego:6: test_deny failed",)


async def test_a_test_that_does_not_compile(tmp_path: Path) -> None:
    """With its place, in the author's file."""
    told = await report(tmp_path, TEST.replace("closed.deny", "nope"))
    assert told.passed == 0
    assert any(f"{tmp_path}/own/closed/closed_test.rego:7: " in failure for failure in told.failed)


async def test_lines_that_no_test_reaches_are_told(tmp_path: Path) -> None:
    told = await report(
        tmp_path, TEST.replace("closed.deny) == 1", "[1]) == 1").replace(' with input.tool.name as "get_price"', "")
    )
    assert told.failed == ()
    assert f"{tmp_path}/own/closed/closed.rego:12" in told.uncovered
    assert told.coverage < 100.0
