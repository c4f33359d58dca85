"""`sidegate stop` and `sidegate resume` against a running sidecar."""

import asyncio
import json

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
    "words", [("stop", "tool"), ("stop", "all", "get_stock"), ("resume", "system"), ("stop", "world")]
)
async def test_a_scope_without_its_name_is_wrong_usage(words: tuple[str, ...], running: Rig) -> None:
    """Found before anything is asked of the sidecar."""
    done = inside(*words, "--url", running.url("review"), "--token-file", running.folder / "rob.token")
    assert done.code == 64
    assert (await running.call(await running.register("s3"), "get_stock"))[1]["status"] == "done"
