"""Which tools a user sees, what is recorded of it, and policies on trial, through the running process."""

import json

from tests.e2e.rig import Rig


async def shown(rig: Rig, handle: str, dialect: str = "native") -> list[str]:
    """Names of the tools that a conversation is shown."""
    headers = {"x-sidegate-conversation": handle}
    async with rig.session.get(f"{rig.url('agent')}/v1/tools?dialect={dialect}", headers=headers) as response:
        assert response.status == 200
        return [tool["name"] for tool in json.loads(await response.read())]


async def test_only_what_the_user_may_use_is_shown_and_recorded(prepared: Rig) -> None:
    """Tools of a system that no role of theirs is granted are not shown; the set that was shown is in the journal."""
    del prepared.policy["grants"]["systems"]["pricing"]
    await prepared.start()
    handle = await prepared.register("c1")
    names = await shown(prepared, handle)
    assert "get_stock" in names
    assert "get_price" not in names
    (record,) = prepared.records(kind="shown")
    assert (record["conversation"], record["tools"]) == ("c1", len(names))


async def test_a_policy_that_takes_a_tool_away_hides_it_once_it_is_in_force(prepared: Rig) -> None:
    """What was shown is kept for a minute at most, and never beyond its revision."""
    await prepared.start()
    handle = await prepared.register("c1")
    assert "get_price" in await shown(prepared, handle)
    _, before = await prepared.review("GET", "/v1/status")
    del prepared.policy["grants"]["systems"]["pricing"]
    prepared.write()

    async def changed() -> bool:
        _, figures = await prepared.review("GET", "/v1/status")
        return bool(figures["policy"] != before["policy"])

    await prepared.until(changed, "the new policy is in force")
    assert "get_price" not in await shown(prepared, handle)


async def test_faults_in_arguments_are_taught_only_to_those_who_see_the_tool(prepared: Rig) -> None:
    """The schema of a tool that is not shown stays unknown; the audit has the details all the same."""
    del prepared.policy["grants"]["systems"]["pricing"]
    await prepared.start()
    handle = await prepared.register("c1")
    _, seen = await prepared.call(handle, "get_stock", {"skuu": "1"})
    assert "skuu" in seen["refusal"]["message"]
    _, unseen = await prepared.call(handle, "get_price", {"skuu": "1"})
    assert unseen["refusal"]["code"] == "invalid_arguments"
    assert "sku" not in json.dumps(unseen["refusal"])
    assert prepared.records(kind="terminal")[-1]["refusal"]["details"]["problems"]


async def test_a_policy_on_trial_is_noted_beside_the_call(prepared: Rig) -> None:
    """`review` on trial: an admin call that it would hold runs, and what it would have said is in the journal."""
    waiver = {"mode": "shadow", "because": "trying it out", "until": "2099-12-31"}
    prepared.policy["policies"]["review"] = waiver
    await prepared.start()
    handle = await prepared.register("c1")
    status, _ = await prepared.call(handle, "drop_all")
    assert status == 200

    async def noted() -> bool:
        return bool(prepared.records(kind="trial"))

    await prepared.until(noted, "what the policy on trial would have said is noted")
    assert "review" in prepared.records(kind="trial")[0]["said"]
    _, figures = await prepared.review("GET", "/v1/status")
    assert figures["not_enforcing"] == ["review"]
