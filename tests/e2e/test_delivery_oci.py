"""Policy in a real registry: pulled by tag or digest, with a password or a token, followed, refused, and outlived."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.adapters.archive import pack
from tests.adapters.keys import rsa_pair
from tests.contracts.opa_server import opa_binary
from tests.e2e.delivery import members, signed, team
from tests.e2e.registry import BASIC, PASSWORD, PEOPLE, Registry, running_registry, token_service
from tests.e2e.rig import Rig, free_ports
from tests.e2e.test_delivery import NOBODY, command, status, until_another, until_refused

pytestmark = pytest.mark.slow


def from_registry(rig: Rig, platform: str, **more: Any) -> Path:
    """Settings of a rig whose policy is in a registry; the private key that signs."""
    private, public = rsa_pair(rig.folder)
    (rig.folder / "registry.pass").write_text(PASSWORD)
    (rig.folder / "registry.pass").chmod(0o600)
    rig.settings.pop("policy", None)
    rig.settings["credentials"]["registry"] = {"basic_file": "registry.pass"}
    bundle = {"platform": platform, "key": str(public), "every": "1s", "credential": "registry"}
    rig.settings["bundle"] = {**bundle, **more}
    return private


async def test_a_pulled_bundle_follows_its_tag_and_outlives_the_registry(prepared: Rig) -> None:
    """With a token for this repository and a pull only; what is not signed is refused; a restart goes on with the last."""
    async with (
        token_service(prepared.folder / "tokens") as service,
        running_registry(prepared.folder / "registry", service.config()) as registry,
    ):
        address = registry.address("policies/platform:stable")
        private = from_registry(prepared, address)
        ci = f"Bearer {service.token('policies/platform', 'push', 'pull')}"

        async def push(content: bytes) -> None:
            await registry.push("policies/platform", "stable", content, ci)

        prepared.write()
        done = await asyncio.to_thread(command, prepared, "check")
        assert (done.returncode, "no such repository, tag or digest" in done.stderr) == (64, True), done.stderr
        await push(await signed(await members(prepared), private))
        await prepared.start()
        first = (await status(prepared))["policy"]
        denying = await members(prepared, **NOBODY)
        await push(pack(denying))
        record = await until_refused(prepared, 1)
        assert record["problems"][0].startswith(f"{address}: is not signed")
        assert (await status(prepared))["policy"] == first
        await push(await signed(denying, private))
        second = (await until_another(prepared, first))["policy"]
        handle = await prepared.register("c1")
        assert (await prepared.send(handle, "get_stock", {"sku": "S1"})).code == "denied"
    assert set(service.asked) == {"repository:policies/platform:pull"}
    await prepared.stop()
    await prepared.start()
    assert (await status(prepared))["policy"] == second
    assert "could not be fetched" in (await until_refused(prepared, 2))["problems"][0]
    await prepared.sound()


async def test_layers_are_pinned_by_digest_and_shown_to_who_has_the_password(prepared: Rig) -> None:
    """Two repositories, one password; a tag that moves moves nothing that is pinned; another's password is a sentence."""
    people = prepared.folder / "people"
    people.write_text(PEOPLE)
    auth = {"htpasswd": {"realm": "tests", "path": str(people)}}
    async with running_registry(prepared.folder / "registry", auth) as registry:
        private = from_registry(prepared, "")
        listed = {"policies": {**prepared.policy["policies"], "team": "enforce"}}
        platform = await signed(await members(prepared, **listed), private)
        digest = await registry.push("policies/platform", "stable", platform, BASIC)
        await registry.push("policies/team", "stable", await signed(team(), private), BASIC)
        prepared.settings["bundle"]["platform"] = registry.address(f"policies/platform@{digest}")
        prepared.settings["bundle"]["teams"] = {"team": registry.address("policies/team:stable")}
        await prepared.start()
        first = await status(prepared)
        assert list(first["layers"]) == ["platform", "team"]
        await registry.push("policies/platform", "stable", pack({}), BASIC)
        await registry.push("policies/team", "stable", pack(team()), BASIC)
        record = await until_refused(prepared, 1)
        assert [problem.partition(": ")[0] for problem in record["problems"]] == [
            registry.address("policies/team:stable")
        ]
        assert (await status(prepared))["revision"] == first["revision"]
        await prepared.sound()
        (prepared.folder / "registry.pass").write_text("pod:another-one")
        done = await asyncio.to_thread(command, prepared, "check")
        assert done.returncode == 64
        assert done.stderr.count("does not take the credential") == 2
        assert "another-one" not in done.stderr


async def revision_in_opa(address: str, process: subprocess.Popen[bytes]) -> str:
    """Which one it serves, once it does."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while process.poll() is None:
            try:
                async with session.get(f"http://{address}/v1/data/sidegate/settings/revision") as answer:
                    if found := json.loads(await answer.read()).get("result"):
                        return str(found)
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("OPA ended")


def opa_config(registry: Registry, key: Path, folder: Path) -> Path:
    """OPA's own settings for the bundle in the registry."""
    name = registry.address("policies/platform:stable").removeprefix("oci://")
    config = {
        "services": {"r": {"url": f"http://127.0.0.1:{registry.port}", "type": "oci"}},
        "bundles": {"b": {"service": "r", "resource": name, "signing": {"keyid": "k"}}},
        "keys": {"k": {"algorithm": "RS256", "key": key.read_text()}},
        "persistence_directory": str(folder / "opa"),
    }
    (folder / "opa.json").write_text(json.dumps(config))
    return folder / "opa.json"


async def test_what_is_pushed_is_what_opa_itself_would_pull(prepared: Rig, tmp_path: Path) -> None:
    """The same artifact, verified with the same key, by OPA's own downloader."""
    async with running_registry(tmp_path / "registry") as registry:
        private = from_registry(prepared, "")
        made = await members(prepared)
        await registry.push("policies/platform", "stable", await signed(made, private))
        config = opa_config(registry, private.with_suffix(".pem"), tmp_path)
        address = f"127.0.0.1:{next(free_ports(1))}"
        line = [str(opa_binary()), "run", "--server", "--addr", address, "--config-file", str(config)]
        process = subprocess.Popen([*line, "--log-level", "error"])  # noqa: ASYNC220 - it returns at once
        try:
            assert await revision_in_opa(address, process) == json.loads(made[".manifest"])["revision"]
        finally:
            process.kill()
            process.wait(10)
