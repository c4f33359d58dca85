"""`sidegate serve`: what keeps it from starting is a sentence and exit code 64, before or instead of a bound port."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import REPO, inside, sidegate
from tests.e2e.rig import Rig, free_ports

PORTS = ("agent", "probe")  # bound last and first


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `sidegate init` makes, on ports that are free."""
    assert inside("init", tmp_path).code == 0
    settings = tmp_path / "sidegate.yaml"
    text = settings.read_text()
    for usual, port in zip(("8900", "8902", "8901"), free_ports(3), strict=True):
        assert f"127.0.0.1:{usual}" in text
        text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}", 1)
    settings.write_text(text)
    return tmp_path


@contextlib.contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_is_taken_is_a_sentence(name: str, directory: Path) -> None:
    """64 and the address; OPA and whatever was started are ended again."""
    with taken() as port:
        done = sidegate("serve", cwd=directory, **{f"SIDEGATE_{name.upper()}_PORT": f"127.0.0.1:{port}"})
    assert done.code == 64
    assert f"{name}_port: 127.0.0.1:{port} cannot be bound" in done.err
    assert "Traceback" not in done.err


def test_wrong_settings_catalog_and_policy_are_told_with_every_problem(directory: Path) -> None:
    """Nothing is bound and no state is made by settings that are wrong."""
    catalog = directory / "catalog" / "tools.yaml"
    catalog.write_text(catalog.read_text().replace("effect: read", "effect: reed").replace("risk: low", "risk: lo"))
    done = sidegate("serve", cwd=directory)
    assert done.code == 64
    assert done.err.count("not started: ") == 2
    with (directory / "sidegate.yaml").open("a") as settings:
        settings.write("colour: blue\nsize: 1\n")
    done = sidegate("serve", cwd=directory)
    assert done.code == 64
    assert "colour" in done.err
    assert "size" in done.err


def test_no_settings_say_how_to_begin(tmp_path: Path) -> None:
    done = sidegate("serve", cwd=tmp_path)
    assert done.code == 64
    assert "sidegate init" in done.err
    assert not list(tmp_path.iterdir())


def test_no_opa_is_a_sentence(directory: Path) -> None:
    done = sidegate("serve", cwd=directory, SIDEGATE_OPA__BINARY="/nowhere/opa", SIDEGATE_CACHE="/nowhere")
    assert done.code == 64
    assert "/nowhere/opa" in done.err


def test_an_opa_that_never_serves_is_a_sentence(directory: Path) -> None:
    """Something that calls itself OPA and ends at once."""
    fake = directory / "opa"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    done = sidegate("serve", cwd=directory, SIDEGATE_OPA__BINARY=str(fake))
    assert done.code in (64, 69)
    assert json.loads(done.err.splitlines()[-1])["message"].startswith("not started: ")
    assert "Traceback" not in done.err


async def test_ctrl_c_ends_it_cleanly(prepared: Rig) -> None:
    """Exit code 0, and its OPA is gone with it. SIGTERM: tests/e2e/test_shutdown.py."""
    await prepared.start()
    opa = prepared.opa_pid()
    assert await prepared.stop(signal.SIGINT) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(opa, 0)


def test_the_log_level_is_one_of_four(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", "serve", "--log-level", "loud"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert "info" in done.stderr
