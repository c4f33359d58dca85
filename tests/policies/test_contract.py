"""What somebody may write by mistake, and what the real OPA then decides (one row each of the table in the design notes)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.bundle import Sources
from proxy.adapters.bundle_proof import sample_bundle, serving
from proxy.adapters.opa_cli import OpaFailedError
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
INPUT: dict[str, Any] = orjson.loads((REGO / "samples/input.json").read_bytes())
HEAD = "package sidegate.policies.extra\n\nimport rego.v2\n\n"
SETTINGS = "sidegate/settings/data.json"
SPEAKS = "deny contains {} if false\n\n"


@pytest.fixture
async def files() -> dict[str, bytes]:
    """The members of the sample bundle."""
    return dict((await sample_bundle(opa_binary(), Sources(shipped=REGO))).files)


def with_extra(files: Mapping[str, bytes], rego: str, mode: str | None = "enforce") -> dict[str, bytes]:
    """The bundle with one more policy, `extra`, unseen by any lint."""
    settings = orjson.loads(files[SETTINGS])
    settings["policies"]["extra"] = mode
    policy = {"sidegate/policies/extra/extra.rego": (HEAD + rego).encode()}
    return {**files, **policy, SETTINGS: orjson.dumps(settings)}


async def decide(files: Mapping[str, bytes], document: Any = INPUT) -> Any:
    """The decision, or OPA's own error as text."""
    async with serving(opa_binary(), files) as ask:
        return await ask(document)


async def test_the_sample_call_is_allowed(files: dict[str, bytes]) -> None:
    """Everything below changes one thing about a call that is allowed."""
    assert (await decide(files))["effect"] == "allow"
    assert (await decide(with_extra(files, SPEAKS)))["effect"] == "allow"


async def test_a_policy_is_known_by_its_folder_alone(files: dict[str, bytes]) -> None:
    """There is no id that could be missing or another's."""
    decision = await decide(with_extra(files, 'deny contains {"code": "no"} if true\n'))
    assert (decision["effect"], decision["deny"]) == ("deny", {"extra": [{"code": "no"}]})


@pytest.mark.parametrize(
    "rego",
    [
        "deny := true\n",
        'deny if input.tool.name == "get_price"\n',
        'deny := {"code": "no"}\n',
        'deny["no"] := "message"\n',
        'deny contains "no"\n',
        "deny := [1]\n",
        "deny := null\n",
        "deny := false\n",
    ],
)
async def test_a_deny_of_any_type_denies(files: dict[str, bytes], rego: str) -> None:
    """Anything but an empty set counts as said."""
    assert (await decide(with_extra(files, rego)))["effect"] == "deny"


@pytest.mark.parametrize("rego", ['denies contains {"code": "no"}\n', "deny if input.tool.name == null\n", "_x := 1\n"])
async def test_a_policy_that_says_nothing_readable_is_missing(files: dict[str, bytes], rego: str) -> None:
    """A misspelt name, or a rule that is undefined, is not an empty set."""
    decision = await decide(with_extra(files, rego))
    assert (decision["effect"], decision["guards"]) == ("deny", ["policy_missing"])


@pytest.mark.parametrize("mode", ["enforced", "Enforce", "", None])
async def test_a_misspelt_mode_counts_as_enforce(files: dict[str, bytes], mode: str | None) -> None:
    """Only the words warn and shadow soften a policy."""
    assert (await decide(with_extra(files, 'deny contains {"code": "no"}\n', mode)))["effect"] == "deny"


@pytest.mark.parametrize("mode", ["warn", "shadow"])
async def test_warn_and_shadow_do_not_deny(files: dict[str, bytes], mode: str) -> None:
    """A policy on trial decides nothing; warn is told with the decision."""
    decision = await decide(with_extra(files, 'deny contains {"code": "no"}\n', mode))
    assert decision["effect"] == "allow"
    assert ("extra" in decision["warn"]) == (mode == "warn")


async def test_a_grant_from_elsewhere_denies(files: dict[str, bytes]) -> None:
    """Only the policies under `granting` may allow."""
    decision = await decide(with_extra(files, 'allow contains {"code": "yes"}\n'))
    assert (decision["effect"], decision["guards"]) == ("deny", ["grant_misplaced"])


async def test_a_grant_from_data_denies(files: dict[str, bytes]) -> None:
    """A data file that pretends to be a policy may not allow either."""
    bundle = with_extra(files, SPEAKS)
    del bundle["sidegate/policies/extra/extra.rego"]
    bundle["sidegate/policies/extra/data.json"] = orjson.dumps({"allow": [{"code": "yes"}], "deny": []})
    decision = await decide(bundle)
    assert (decision["effect"], decision["guards"]) == ("deny", ["grant_misplaced"])


@pytest.mark.parametrize("section", ["schema", "revision", "policies", "grants"])
async def test_settings_without_a_foundation_deny(files: dict[str, bytes], section: str) -> None:
    """What remains, a section that only narrows, is why the schema of the policy file requires all."""
    settings = orjson.loads(files[SETTINGS])
    del settings[section]
    decision = await decide({**files, SETTINGS: orjson.dumps(settings)})
    assert isinstance(decision, str) or decision["effect"] == "deny"


async def test_a_message_that_reads_an_absent_field(files: dict[str, bytes]) -> None:
    """A template string keeps the deny; sprintf would lose it, which is why the lint looks at heads."""
    kept = 'deny contains {"code": "no", "message": $"for {input.principal.attributes.team}"}\n'
    decision = await decide(with_extra(files, kept))
    assert decision["deny"] == {"extra": [{"code": "no", "message": "for <undefined>"}]}
    lost = 'deny contains {"code": "no", "message": sprintf("for %s", [input.principal.attributes.team])}\n'
    assert (await decide(with_extra(files, lost)))["effect"] == "allow"


async def test_an_error_of_a_builtin_function_refuses_the_call(files: dict[str, bytes]) -> None:
    """Strict errors turn it into a 500, which is a refusal; without them the deny would be gone."""
    answer = await decide(with_extra(files, 'deny contains {"code": "no"} if object.keys(input.tool.name)\n'))
    assert isinstance(answer, str)
    assert "eval_type_error" in answer


async def test_a_conflict_refuses_the_call_but_not_on_trial(files: dict[str, bytes]) -> None:
    """A shadow policy is asked apart, so that its faults are its own."""
    conflict = SPEAKS + "review := 1 if true\n\nreview := 2 if input.tool.name\n"
    assert isinstance(await decide(with_extra(files, conflict)), str)
    assert (await decide(with_extra(files, conflict, "shadow")))["effect"] == "allow"


async def test_a_policy_that_nobody_listed_is_a_mismatch(files: dict[str, bytes]) -> None:
    """Loaded beside ours, it decides nothing, and start-up is told."""
    bundle = {**with_extra(files, 'deny contains {"code": "no"}\n'), SETTINGS: files[SETTINGS]}
    async with serving(opa_binary(), bundle) as ask:
        assert (await ask(INPUT))["effect"] == "allow"
        assert await ask(INPUT, "mismatch") == ["extra"]
    async with serving(opa_binary(), files) as ask:
        assert await ask(INPUT, "mismatch") == []


async def test_a_file_outside_of_our_root_is_not_served(files: dict[str, bytes]) -> None:
    """The bundle owns `sidegate` and nothing else."""
    foreign = {**files, "system/authz/authz.rego": b"package system.authz\n\nallow := true\n"}
    with pytest.raises(OpaFailedError):
        await decide(foreign)


async def test_an_approval_does_not_cover_a_new_reason(files: dict[str, bytes]) -> None:
    """Who said yes to one reason did not say yes to the next."""
    held = '{"code": "held", "message": "ask"}'
    approved = {
        **INPUT,
        "approval": {"by": "r-1", "at": "2026-11-25T10:00:00Z", "covers": {"extra": [orjson.loads(held)]}},
    }
    one, two = f"review contains {held}\n", f'review contains {held}\n\nreview contains {{"code": "new"}}\n'
    assert (await decide(with_extra(files, one)))["effect"] == "review"
    assert (await decide(with_extra(files, one), approved))["effect"] == "allow"
    assert (await decide(with_extra(files, two), approved))["effect"] == "review"
    denied = one + '\ndeny contains {"code": "no"}\n'
    assert (await decide(with_extra(files, denied), approved))["effect"] == "deny"


@pytest.mark.parametrize("document", [None, [], "text", 7, {}, {"call": {}}])
async def test_an_input_that_is_none_denies(files: dict[str, bytes], document: Any) -> None:
    """Absent facts never allow."""
    answer = await decide(files, document)
    assert isinstance(answer, str) or answer["effect"] == "deny"


async def test_visible_is_the_matrix_for_this_principal(files: dict[str, bytes]) -> None:
    """Tools are shown by authorization alone: by tool, by system and effect, by agent and by date."""
    tools = [{**INPUT["tool"], "name": name, "system": system, "effect": effect} for name, system, effect in (
        ("get_price", "pricing", "read"),
        ("create_order", "purchasing", "write"),
        ("get_stock", "inventory", "read"),
        ("set_stock", "inventory", "write"),
    )]  # fmt: skip
    document = {key: INPUT[key] for key in ("principal", "agent", "environment")} | {"tools": tools}
    employee = {**document, "principal": {**INPUT["principal"], "roles": ["employee"]}}
    async with serving(opa_binary(), files) as ask:
        assert await ask(document, "visible") == ["create_order", "get_price", "get_stock"]
        assert await ask(employee, "visible") == ["get_stock"]
        assert await ask({**employee, "tools": []}, "visible") == []
        assert await ask({}, "visible") == []
