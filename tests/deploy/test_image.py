"""deploy/Dockerfile: linted, built for real, and its root run as a cluster runs it: read-only, no capability, no new rights."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import aiohttp
import pytest
import yaml

from proxy.adapters.token_file import token_line
from tests.e2e.sidecar import free_ports
from tests.e2e.upstream import Upstream
from tests.e2e.world import CATALOG, POLICY, TOOLS
from tests.pod import image
from tests.pod.container import Spec

REPO = Path(__file__).parents[2]
DOCKERFILE = REPO / "deploy" / "Dockerfile"
UID = 26500

built = pytest.mark.skipif(os.geteuid() != 0, reason="building an image makes mounts, which needs root")


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_in_it_moves_or_says_where_packages_come_from() -> None:
    """Every image comes by a build argument without default, every package with a hash; the user is a number."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${OPA}", "${BASE}"}
    assert re.findall(r"^ARG (?:BASE|OPA)\b(.*)$", text, re.MULTILINE) == [""] * 4
    assert not re.search(r"https?://|apt-get|curl|wget|ADD ", text)
    installs = re.findall(r"pip\S*(?: --python \S+)? install ([^&\n]*)", text)
    assert installs
    assert all("--require-hashes" in words or "--no-index" in words for words in installs), installs
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [f"{UID}:{UID}"]


def test_the_context_holds_what_the_image_is_made_of_and_nothing_else() -> None:
    """No test, no state, no key of a developer's checkout gets into a layer."""
    lines = (REPO / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = set(re.findall(r"^COPY ([^-\n]+) \S+$", DOCKERFILE.read_text(), re.MULTILINE))
    wanted = {word for words in copied for word in words.split()}
    assert {Path(word).parent.as_posix() if word.endswith(".txt") else word for word in wanted} == let_in


def test_all_that_the_wheel_is_made_of_is_copied() -> None:
    """pyproject.toml names folders beside the package; the build breaks late where one is missing."""
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    named = {*wheel["packages"], *wheel["force-include"]}
    assert named <= {line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert named <= set(re.findall(r"^COPY (\S+) /source/\S+$", DOCKERFILE.read_text(), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
@pytest.mark.parametrize("argument", ["BASE", "OPA"])
def test_an_image_named_by_tag_is_refused(argument: str) -> None:
    name = "localhost/base" if argument == "BASE" else "localhost/opa"
    image.build()  # so that a local image is there to be named
    tag = image.tags()[argument]
    said = image.refused_build(**{argument: f"{name}:{tag}"})
    assert "BASE and OPA must be named by digest, NAME@sha256:..., not by tag: " in said
    assert f"'{name}:{tag}'" in said


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
def test_the_image_says_what_it_is_and_how_it_is_run() -> None:
    config = image.build().config
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["sidegate"]
    assert config["Cmd"] == ["serve", "--settings", "/etc/sidegate/sidegate.yaml"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}", config["Labels"]["org.opencontainers.image.revision"])
    assert not [pair for pair in config["Env"] if pair.startswith("PIP_")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
def test_in_its_root_nothing_belongs_to_its_user_or_is_left_of_the_build() -> None:
    """What runs cannot change itself, even where a root file system is not mounted read-only; no pip, no sources, no cache."""
    root = image.build().root
    ours = [path for path in (root / "opt" / "sidegate").rglob("*") if path.lstat().st_uid == UID]
    loose = [p for p in (root / "opt" / "sidegate").rglob("*") if not p.is_symlink() and p.lstat().st_mode & 0o022]
    assert (ours, loose) == ([], [])
    left = [name for name in ("tools", "source", "wheel", "wheels", "locks") if (root / name).exists()]
    assert left == []
    assert not list((root / "opt" / "sidegate" / "bin").glob("pip*"))
    assert (root / "usr" / "local" / "bin" / "opa").stat().st_mode & 0o777 == 0o755


def container(argv: list[str], mounts: list[tuple[str, str, bool]] | None = None) -> list[str]:
    """The command that runs this in the image as a cluster would, in this machine's network."""
    made = image.build()
    for _, place, _ in mounts or []:
        (made.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    spec = Spec(
        root=str(made.root),
        network="",
        argv=argv,
        env=dict(pair.split("=", 1) for pair in made.config["Env"]),
        uid=UID,
        gid=UID,
        groups=[],
        mounts=mounts or [],
    )
    return [sys.executable, "-m", "tests.pod.container", spec.text()]


def run(*argv: str) -> str:
    done = subprocess.run(container(list(argv)), cwd=REPO, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
def test_both_programs_run_in_it_without_any_right() -> None:
    """As uid 26500 on a read-only root: the pinned versions, no capability, and nothing that could be written but volumes."""
    assert run("sidegate", "--version") == "sidegate 0.1.0\n"
    assert "Version: 1.22.2" in run("opa", "version").splitlines()
    status = run("sh", "-c", "cat /proc/self/status; touch /opt/x /tmp/x 2>/dev/null || echo read-only")
    assert status.endswith("read-only\n")
    options = {line.split()[1]: line.split()[3].split(",") for line in run("cat", "/proc/self/mounts").splitlines()}
    assert {"ro", "nosuid", "nodev"} <= set(options["/"])
    rights = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs", "Uid")))
    assert {value for name, value in rights.items() if name.startswith("Cap")} == {"0" * 16}
    assert (rights["NoNewPrivs"], rights["Uid"]) == ("1", "\t".join([str(UID)] * 4))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
@pytest.mark.parametrize("modules", ["proxy.app, proxy.desk", "proxy.cli.policy_build, proxy.cli.check"])
def test_a_start_compiles_nothing(modules: str) -> None:
    """Bytecode cannot be written when it runs, and the base's standard library has none: each start would compile it anew."""
    command = container(["/opt/sidegate/bin/python", "-v", "-c", f"import proxy.cli.main, {modules}"])
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    read = re.findall(r"^# code object from '?([^'\n]+)", done.stderr, re.MULTILINE)
    assert len([path for path in read if path.endswith(".pyc")]) > 150
    assert [path for path in read if path.endswith(".py")] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@built
async def test_a_call_is_decided_in_it(tmp_path: Path) -> None:
    """Single mode, the default command: OPA supervised inside, one call executed, one refused; SIGTERM ends it with 0."""
    upstream = Upstream()
    await upstream.start()
    agent, review, probe = free_ports(3)
    folders = {name: tmp_path / name for name in ("settings", "state", "tmp")}
    for place in (*folders.values(), *tmp_path.parents[:2], tmp_path):
        place.mkdir(exist_ok=True)
        place.chmod(0o777 if place in folders.values() else 0o755)
    token = write_settings(folders["settings"], upstream.port, agent, review, probe)
    mounts = [(str(folders["settings"]), "/etc/sidegate", False), (str(folders["state"]), "/var/lib/sidegate", True)]
    config = image.build().config
    command = container([*config["Entrypoint"], *config["Cmd"]], [*mounts, (str(folders["tmp"]), "/tmp", True)])
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=log)  # noqa: ASYNC220 - it returns at once
    try:
        await until_ready(f"http://127.0.0.1:{probe}/healthz/ready", process, tmp_path / "log")
        statuses = await asyncio.to_thread(calls, f"http://127.0.0.1:{agent}", token)
        assert statuses == {"get_stock": 200, "create_order": 403}
        assert [request.target for request in upstream.received] == ["/stock/SKU-1"]
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0, (tmp_path / "log").read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
        await upstream.stop()


def write_settings(folder: Path, upstream: int, agent: int, review: int, probe: int) -> str:
    """The e2e world with one user; returns the user's token."""
    token, line = token_line(subject="ada", name="Ada", tenant="acme", roles=("buyer",))
    _, reviewer = token_line(subject="rob", name="Rob", tenant="acme", roles=("sourcing-leads",))
    (folder / "tokens.yaml").write_text(line)
    (folder / "reviewers.yaml").write_text(reviewer)
    (folder / "token").write_text("credential")
    catalog = json.dumps({**CATALOG, "tools": TOOLS}).replace("{upstream}", str(upstream))
    policy = json.loads(json.dumps(POLICY))
    policy["grants"]["systems"]["suppliers"].pop("write")
    settings = {
        "state": "/var/lib/sidegate/state",
        "catalog": "catalog",
        "policy": "policy.yaml",
        "agent_port": f"127.0.0.1:{agent}",
        "review_port": f"127.0.0.1:{review}",
        "probe_port": f"127.0.0.1:{probe}",
        "tokens": {"file": "tokens.yaml"},
        "reviewers": {"file": "reviewers.yaml"},
        "credentials": {"api": {"bearer_file": "token"}},
        "opa": {"deadline": "10s"},  # the machine may be busy
    }
    (folder / "catalog").mkdir()
    for name, content in (("catalog/tools", json.loads(catalog)), ("policy", policy), ("sidegate", settings)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return token


async def until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Poll the probe; at most 30 s."""
    end = time.monotonic() + 30
    while True:
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(await asyncio.to_thread(log.read_text))
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.02)


def calls(base: str, token: str) -> dict[str, int]:
    """Register, then one call of each kind: tool -> HTTP status."""
    json_type = {"content-type": "application/json"}
    user = json_type | {"authorization": f"Bearer {token}"}
    put = Request(f"{base}/v1/conversations/c1", b'{"text": "hello"}', user, method="PUT")
    with urlopen(put, timeout=10) as answer:
        handle = json.load(answer)["handle"]
    found = {}
    for tool, arguments in (("get_stock", {"sku": "SKU-1"}), ("create_order", {"sku": "S", "quantity": 1})):
        body = json.dumps({"id": "c1", "tool": tool, "arguments": arguments}).encode()
        request = Request(f"{base}/v1/tool-calls", body, json_type | {"x-sidegate-conversation": handle})
        try:
            with urlopen(request, timeout=10) as answer:
                found[tool] = answer.status
        except HTTPError as refusal:
            found[tool] = refusal.code
            refusal.close()
    return found
