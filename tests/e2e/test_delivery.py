"""Policy that was built elsewhere: mounted, swapped, fetched, broken, gone back from; the old state is kept on every fault."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from proxy.adapters.archive import PACKED, pack
from tests.adapters.keys import rsa_pair
from tests.adapters.team import TEAM
from tests.contracts.opa_server import opa_binary, short_directory
from tests.e2e.delivery import Mount, members, signed, team
from tests.e2e.rig import REPO, Rig

pytestmark = pytest.mark.slow
NOBODY: dict[str, Any] = {"grants": {"tools": {}, "systems": {}}}


async def status(rig: Rig) -> dict[str, Any]:
    return dict((await rig.review("GET", "/v1/status"))[1])


async def until_another(rig: Rig, before: str) -> dict[str, Any]:
    """The status once the policy is another."""

    async def changed() -> bool:
        return bool((await status(rig))["policy"] != before)

    await rig.until(changed, "another policy is in force")
    return await status(rig)


def command(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    """`sidegate` on the rig's settings."""
    line = [sys.executable, "-m", "proxy.cli", *words, "--settings", str(rig.folder / "sidegate.yaml")]
    return subprocess.run(line, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)


async def until_refused(rig: Rig, times: int) -> dict[str, Any]:
    """The last of so many reload records that failed."""
    await rig.until_true(lambda: len(rig.records(kind="reload", failed=True)) >= times, f"{times} refused changes")
    return rig.records(kind="reload", failed=True)[-1]


@pytest_asyncio.fixture(loop_scope="module")
async def mount(prepared: Rig) -> AsyncIterator[Mount]:
    """The rig's policy as a mounted bundle, signed."""
    made = Mount(prepared.folder / "mount")
    private, public = rsa_pair(prepared.folder)
    del prepared.settings["policy"]
    prepared.settings["bundle"] = {"platform": "mount/policy.tar.gz", "key": str(public)}
    made.swap({"policy.tar.gz": await signed(await members(prepared), private)})
    yield made


async def test_a_swapped_mount_is_taken_over_and_every_fault_keeps_what_was_there(prepared: Rig, mount: Mount) -> None:
    """Half-written, no gzip, unsigned, another's signature, Rego that is none, the network, too large, gone."""
    private = prepared.folder / "rsa.key"
    await prepared.start()
    handle = await prepared.register("c1")
    first = await status(prepared)
    assert first["layers"] == {"platform": first["policy"]}
    assert (await prepared.send(handle, "get_stock", {"sku": "S1"})).status == 200
    denying = await members(prepared, **NOBODY)
    mount.swap({"policy.tar.gz": await signed(denying, private)})
    second = await until_another(prepared, first["policy"])
    assert (await prepared.send(handle, "get_stock", {"sku": "S2"})).code == "denied"

    other = rsa_pair(prepared.folder, "other")[0]
    good = await signed(await members(prepared), private)
    faults = {
        "is cut short": good[: len(good) // 2],
        "is not gzip": b"<html>busy</html>",
        "is not signed, and": pack(denying),
        "is not signed by": await signed(denying, other),
        f"larger than {PACKED}": b"\0" * (PACKED + 1),
        "is the layer team": await signed(team(), private),
        "is not there": None,
    }
    for number, (wanted, content) in enumerate(faults.items(), 1):
        mount.swap({} if content is None else {"policy.tar.gz": content})
        record = await until_refused(prepared, number)
        assert "mount/policy.tar.gz: " in record["problems"][0], record
        assert wanted in record["problems"][0]
        now = await status(prepared)
        assert (now["revision"], now["ready"]) == (second["revision"], True)
    assert (await prepared.send(handle, "get_stock", {"sku": "S3"})).code == "denied"
    mount.swap({"policy.tar.gz": good})
    assert (await until_another(prepared, second["policy"]))["policy"] == first["policy"]
    assert (await prepared.send(handle, "get_stock", {"sku": "S4"})).status == 200
    await prepared.sound()


async def test_a_team_is_a_layer_of_its_own_and_cannot_reach_beyond_it(prepared: Rig, mount: Mount) -> None:
    """Its rule counts; what it may not do is refused with the member and the row; both revisions are told."""
    private = prepared.folder / "rsa.key"
    listed = {"policies": {**prepared.policy["policies"], "team": "enforce"}}
    prepared.settings["bundle"]["teams"] = {"team": "mount/team.tar.gz"}
    platform = await signed(await members(prepared, **listed), private)
    rule = TEAM.replace('input.call.tool == "friday"', 'input.call.arguments.sku == "S-FRIDAY"')
    mount.swap({"policy.tar.gz": platform, "team.tar.gz": await signed(team(rule), private)})
    await prepared.start()
    first = await status(prepared)
    assert list(first["layers"]) == ["platform", "team"]
    handle = await prepared.register("c1")
    assert (await prepared.send(handle, "get_stock", {"sku": "S1"})).status == 200
    assert (await prepared.send(handle, "get_stock", {"sku": "S-FRIDAY"})).code == "denied"
    (record,) = [one for one in prepared.records(kind="reload") if "revision" in one]
    assert record["layers"] == first["layers"]

    asking = 'http.send({"method": "get", "url": "http://x"}).body =='
    wrong = {
        "undefined function http.send": rule.replace("input.call.arguments.sku ==", asking),
        "reads input in its head": rule.replace('$"not on {input.environment.now}"', "input.environment.now"),
        "does not compile: sidegate/policies/team/team.rego:13": rule.replace("input.call.arguments.sku", "input["),
    }
    for number, (wanted, rego) in enumerate(wrong.items(), 1):
        assert rego != rule
        mount.swap({"policy.tar.gz": platform, "team.tar.gz": await signed(team(rego), private)})
        problems = "\n".join((await until_refused(prepared, number))["problems"])
        assert wanted in problems
        assert "mount/team.tar.gz" in problems
    assert (await status(prepared))["revision"] == first["revision"]
    await prepared.sound()


async def test_an_operator_goes_back_and_that_holds_until_another_policy_comes(prepared: Rig, mount: Mount) -> None:
    """By the command, over a restart, in the journal; the next delivery ends it."""
    private = prepared.folder / "rsa.key"
    await prepared.start()
    handle = await prepared.register("c1")
    first = (await status(prepared))["policy"]
    assert command(prepared, "policy", "rollback").returncode == 1, "there is nothing to go back to"
    mount.swap({"policy.tar.gz": await signed(await members(prepared, **NOBODY), private)})
    second = (await until_another(prepared, first))["policy"]
    done = await asyncio.to_thread(command, prepared, "policy", "rollback")
    assert (done.returncode, done.stdout) == (0, f"in force: back to {first[:12]}\n"), done.stderr
    assert (await prepared.send(handle, "get_stock", {"sku": "S1"})).status == 200
    told = await status(prepared)
    assert (told["policy"], set(told["rolled_back"])) == (first, {"by", "at"})
    assert prepared.records(kind="reload", revision=told["revision"])[-1]["rolled_back"] == told["rolled_back"]
    listed = json.loads(command(prepared, "policy", "history", "--json").stdout)
    assert [(one["revision"], one["in_force"]) for one in listed["policies"]] == [(second, False), (first, True)]

    await prepared.stop()
    await prepared.start()
    assert (await status(prepared))["policy"] == first
    third = {"review": {"approvers": ["others"], "effects": {}, "risks": {}}}
    mount.swap({"policy.tar.gz": await signed(await members(prepared, **third), private)})
    last = await until_another(prepared, first)
    assert last["policy"] not in (first, second)
    assert last["rolled_back"] is None
    await prepared.sound()


async def test_a_rollback_is_ended_by_the_operator_too(prepared: Rig, mount: Mount) -> None:
    """Then the source's policy counts again; with nothing to end, that is the answer."""
    private = prepared.folder / "rsa.key"
    await prepared.start()
    first = (await status(prepared))["policy"]
    mount.swap({"policy.tar.gz": await signed(await members(prepared, **NOBODY), private)})
    second = (await until_another(prepared, first))["policy"]
    assert (await asyncio.to_thread(command, prepared, "policy", "rollback", first[:8])).returncode == 0
    assert (await asyncio.to_thread(command, prepared, "policy", "rollback", "--end")).returncode == 0
    assert (await status(prepared))["policy"] == second
    assert command(prepared, "policy", "rollback", "--end").returncode == 1


async def test_without_its_bundle_it_ends_with_a_sentence(prepared: Rig, mount: Mount) -> None:
    """A mount of a ConfigMap that is not there is an empty folder: exit code 64, no port is bound, nothing hangs."""
    mount.swap({})
    prepared.write()
    for words in (("serve",), ("policy", "install"), ("check",)):
        done = command(prepared, *words)
        assert done.returncode == 64
        assert "mount/policy.tar.gz: is not there: mount or write it" in done.stderr


async def test_an_opa_that_starts_first_finds_what_was_installed(prepared: Rig, mount: Mount) -> None:
    """As in a pod: install, then OPA in its own process, then the sidecar, which swaps what OPA reads."""
    with short_directory() as shared:
        bundle, socket = shared / "policy.tar.gz", shared / "opa.sock"
        prepared.settings["opa"] |= {"mode": "external", "address": f"unix:{socket}", "bundle": str(bundle)}
        prepared.write()
        assert command(prepared, "policy", "install").returncode == 0
        line = [str(opa_binary()), "run", "--server", "--addr", f"unix://{socket}", "--bundle", str(bundle), "--watch"]
        opa = subprocess.Popen([*line, "--log-level", "error"])  # noqa: ASYNC220 - it returns at once
        try:
            await prepared.until_true(socket.exists, "OPA listens")
            await prepared.start()
            handle = await prepared.register("c1")
            assert (await prepared.send(handle, "get_stock", {"sku": "S1"})).status == 200
            before = (await status(prepared))["policy"]
            private = prepared.folder / "rsa.key"
            mount.swap({"policy.tar.gz": await signed(await members(prepared, **NOBODY), private)})
            await until_another(prepared, before)
            assert (await prepared.send(handle, "get_stock", {"sku": "S2"})).code == "denied"
            await prepared.stop()
        finally:
            opa.kill()
            opa.wait(10)


async def test_a_fetched_bundle_follows_its_server_and_outlives_it(prepared: Rig) -> None:
    """Taken over while it runs; refused when it is not signed; a restart without the server goes on with the last good one."""
    private, public = rsa_pair(prepared.folder)
    body = {"bundle": await signed(await members(prepared), private)}
    asked: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers.get("Authorization"))
        return web.Response(body=body["bundle"])

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/policy.tar.gz"
    del prepared.settings["policy"]
    prepared.settings["bundle"] = {"platform": url, "key": str(public), "every": "1s", "credential": "api"}
    try:
        await prepared.start()
        first = (await status(prepared))["policy"]
        assert asked[0] is not None
        denying = await members(prepared, **NOBODY)
        body["bundle"] = pack(denying)
        record = await until_refused(prepared, 1)
        assert record["problems"][0].startswith(f"{url}: is not signed")
        assert (await status(prepared))["policy"] == first
        body["bundle"] = await signed(denying, private)
        second = (await until_another(prepared, first))["policy"]
    finally:
        await runner.cleanup()
    await prepared.stop()
    await prepared.start()
    assert (await status(prepared))["policy"] == second
    record = await until_refused(prepared, 2)
    assert "could not be fetched" in record["problems"][0]
    await prepared.sound()
