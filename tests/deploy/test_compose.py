"""deploy/compose.yaml: no engine runs here, so its structure is looked at, its settings are read, and its store is started."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import Settings, read
from tests.e2e.redis_server import RedisServer
from tests.e2e.sidecar import REPO

COMPOSE: dict[str, Any] = yaml.safe_load((REPO / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def settings(name: str) -> Settings:
    """The settings in a config, as the process reads them."""
    return read(REPO / "deploy" / COMPOSE["configs"][name]["file"], {})


def mounts(service: dict[str, Any]) -> set[str]:
    """Names of volumes and host folders that a service mounts."""
    volumes = service.get("volumes", ())
    return {volume["source"] if isinstance(volume, dict) else volume.split(":/")[0] for volume in volumes}


def test_it_has_an_agent_its_sidecar_opa_store_desk_and_jaeger() -> None:
    assert set(SERVICES) == {"agent", "policy", "sidegate", "opa", "store", "desk", "jaeger"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_an_argument_without_a_default(name: str) -> None:
    """So nobody runs a tag that somebody else may move."""
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:\?[^}]+by digest\}", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_runs_with_few_rights(name: str) -> None:
    """Not root, nothing writable but its volumes, no capability, no way to more."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name != "jaeger":  # its image names a user of its own
        assert int(service["user"].split(":")[0]) > 0


def test_nothing_is_published_but_desk_and_jaeger_s_pages_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"desk": ["127.0.0.1:8902:8902"], "jaeger": ["127.0.0.1:16686:16686"]}
    assert not [name for name, service in SERVICES.items() if service.get("network_mode") == "host"]


def test_the_agent_shares_the_network_and_nothing_else() -> None:
    """No volume, secret or config of ours, and another user than ours."""
    agent = SERVICES["agent"]
    assert agent["network_mode"] == "service:sidegate"
    assert not {"volumes", "secrets", "configs", "environment"} & agent.keys()
    users = [service["user"].split(":")[0] for service in SERVICES.values() if "user" in service]
    assert users.count("10001") == 1
    assert agent["depends_on"] == {"sidegate": {"condition": "service_healthy"}}


def test_opa_and_store_have_no_network_and_are_reached_over_shared_volumes() -> None:
    for name, volume in (("opa", "run"), ("store", "store")):
        assert SERVICES[name]["network_mode"] == "none"
        assert volume in mounts(SERVICES[name]) & mounts(SERVICES["sidegate"])
    assert "store" in mounts(SERVICES["desk"])
    assert "run" not in mounts(SERVICES["desk"])


def test_what_is_mounted_or_waited_for_is_declared() -> None:
    for service in SERVICES.values():
        assert {name for name in mounts(service) if name.isidentifier() or ("-" in name and "$" not in name)} <= set(
            COMPOSE["volumes"]
        )
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert {config["source"] for config in service.get("configs", ())} <= set(COMPOSE["configs"])
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_no_config_or_secret_is_copied_into_a_container() -> None:
    """Compose 2 copies what is inline or from the environment, and ends with an error where the root is read-only."""
    for kind in ("configs", "secrets"):
        assert {tuple(source) for source in COMPOSE[kind].values()} == {("file",)}
    assert all((REPO / "deploy" / source["file"]).is_file() for source in COMPOSE["configs"].values())


def test_a_file_that_is_missing_stops_the_start() -> None:
    """Docker would make an empty folder of that name, and the sidecar would look for policy in it."""
    binds = [v for service in SERVICES.values() for v in service.get("volumes", ()) if "SIDEGATE_FILES" in str(v)]
    assert len(binds) == 4
    assert [bind["bind"] for bind in binds] == [{"create_host_path": False}] * 4


def test_what_one_service_leaves_for_the_next_is_not_in_memory() -> None:
    """A tmpfs volume is unmounted when its last container ends: `policy` ends before `opa` begins."""
    assert "run" in mounts(SERVICES["policy"]) & mounts(SERVICES["opa"])
    assert COMPOSE["volumes"]["run"] == {}


def test_its_settings_are_read_and_say_where_things_are() -> None:
    """Secrets and sockets stand in them as they are mounted; the desk is reached by TLS only."""
    sidecar, desk = settings("sidecar"), settings("desk")
    store = SERVICES["store"]["command"][SERVICES["store"]["command"].index("--unixsocket") + 1]
    for found in (sidecar, desk):
        assert found.store is not None
        assert found.store.url == f"unix:{store}"
        assert found.store.mac_key_file == Path("/run/secrets/mac")
    assert f"--addr={sidecar.opa.address}" in SERVICES["opa"]["command"]
    assert SERVICES["opa"]["command"][-1] == str(sidecar.opa.bundle)
    assert desk.review_port.certificate == Path("/run/secrets/desk-certificate")
    assert sidecar.agent_port.loopback
    assert sidecar.review_port.loopback


@pytest.mark.slow  # it needs Redis
async def test_the_store_s_arguments_make_a_server_that_flushes_each_write(tmp_path: Path) -> None:
    """The real server takes them; only its folders are others here."""
    given = list(SERVICES["store"]["command"])
    for name in ("--unixsocket", "--dir", "--port"):
        at = given.index(name)
        del given[at : at + 2]
    server = RedisServer(tmp_path, *given)
    await server.start()
    try:
        assert b"always" in server.command("CONFIG", "GET", "appendfsync")
        assert b"yes" in server.command("CONFIG", "GET", "appendonly")
    finally:
        server.kill()
        server.socket.unlink(missing_ok=True)
