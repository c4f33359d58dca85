"""`sidegate stop`, `stop list` and `resume` against a running sidecar."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.command import Done, harmless, inside
from tests.e2e.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def command(running: Rig, *words: str, by: str = "rob") -> Done:
    token = running.folder / f"{by}.token"
    return await asyncio.to_thread(inside, *words, "--url", running.url("review"), "--token-file", token)


@pytest.mark.parametrize("scope", [("tool", "get_stock"), ("system", "inventory"), ("conversation", "s1"), ("all",)])
async def test_a_stop_refuses_calls_until_it_is_lifted(scope: tuple[str, ...], running: Rig) -> None:
    handle = await running.register("s1")
    stopped = await command(running, "stop", *scope)
    assert stopped.code == 0
    assert f"{' '.join(scope)} is stopped" in stopped.out
    assert "no" not in stopped.out.split()
    _, answer = await running.call(handle, "get_stock")
    assert answer["refusal"]["code"] == "stopped"
    lifted = await command(running, "resume", *scope, "--json")
    assert lifted.code == 0
    assert json.loads(lifted.out)["standing"] is False
    assert (await running.call(handle, "get_stock"))[1]["status"] == "done"


async def test_only_an_operator_throws_a_switch(running: Rig) -> None:
    """A reviewer without the role gets a no, and calls go on."""
    done = await command(running, "stop", "all", by="sam")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sidegate: ")
    assert (await running.call(await running.register("s2"), "get_stock"))[1]["status"] == "done"


@pytest.mark.parametrize("scope", ["tool", "system"])
async def test_a_name_that_the_catalog_does_not_have_is_said(scope: str, running: Rig) -> None:
    """It stands, since the catalog may bring it; but who has misspelt a name at night has stopped nothing."""
    done = await command(running, "stop", scope, "get_stokc")
    assert done.code == 0
    assert f"the catalog has no {scope} of that name" in done.out
    assert (await command(running, "resume", scope, "get_stokc")).code == 0


async def test_a_name_with_control_characters_is_shown_and_not_obeyed(running: Rig) -> None:
    done = await command(running, "stop", "tool", "x\x1b[2J\u202e")
    await command(running, "resume", "tool", "x\x1b[2J\u202e")
    assert harmless(done.all)


@pytest.mark.parametrize(
    "words",
    [
        ("stop", "tool"),
        ("stop", "all", "get_stock"),
        ("stop", "list", "tool"),
        ("resume", "system"),
        ("resume", "list"),
        ("stop", "world"),
    ],
)
async def test_a_scope_without_its_name_is_wrong_usage(words: tuple[str, ...], running: Rig) -> None:
    """Found before anything is asked of the sidecar."""
    done = inside(*words, "--url", running.url("review"), "--token-file", running.folder / "rob.token")
    assert done.code == 64
    assert (await running.call(await running.register("s3"), "get_stock"))[1]["status"] == "done"


async def test_what_stands_is_listed_with_since_when_and_by_whom(running: Rig) -> None:
    assert (await command(running, "stop", "list")).out == "nothing is stopped\n"
    before = datetime.now(UTC)
    for switch in (("tool", "x\x1b[2Jy"), ("system", "inventory")):
        await command(running, "stop", *switch)
    listed = await command(running, "stop", "list")
    assert (listed.code, harmless(listed.all)) == (0, True)
    head, first, second = listed.out.splitlines()
    assert head.split() == ["STOPPED", "SINCE", "BY"]
    assert first.startswith("system inventory")
    assert first.endswith("token-file#rob")
    assert second.startswith("tool x\\u001b[2Jy")
    one = json.loads((await command(running, "stop", "list", "--json")).out)[0]
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(one["since"]) <= datetime.now(UTC)
    for switch in (("tool", "x\x1b[2Jy"), ("system", "inventory")):
        await command(running, "resume", *switch)
    assert (await command(running, "stop", "list")).out == "nothing is stopped\n"
    refused = await command(running, "stop", "list", by="sam")
    assert (refused.code, "operator" in refused.err) == (1, True)
