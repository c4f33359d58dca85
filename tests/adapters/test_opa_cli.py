"""OPA as a command: bounded, in an empty environment, without functions that reach out."""

import os
from pathlib import Path

import orjson
import pytest

from proxy.adapters.opa_cli import FORBIDDEN_BUILTINS, OpaFailedError, Said, capabilities, errors, read, run_opa
from tests.contracts.opa_server import opa_binary


def script(folder: Path, text: str) -> Path:
    """A command that stands in for OPA."""
    file = folder / "opa"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


async def test_it_runs_and_tells(tmp_path: Path) -> None:
    """Code and both streams."""
    said = await run_opa(script(tmp_path, "echo out; echo err >&2; exit 3"), "x", directory=tmp_path)
    assert (said.code, said.out, said.err, said.text) == (3, b"out\n", b"err\n", "out\nerr")


async def test_it_gets_an_empty_environment(tmp_path: Path) -> None:
    """No variable of ours reaches it; a shell makes three of its own."""
    assert len(os.environ) > 4
    said = await run_opa(script(tmp_path, "env"), "x", directory=tmp_path)
    names = {line.split("=")[0] for line in said.out.decode().splitlines()}
    assert names <= {"PWD", "SHLVL", "_", "OLDPWD"}


async def test_it_is_killed_when_it_takes_too_long(tmp_path: Path) -> None:
    """And the process is gone."""
    slow = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(OpaFailedError, match=r"opa x did not end within 0\.5 s"):
        await run_opa(slow, "x", directory=tmp_path, seconds=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_an_opa_that_is_not_there(tmp_path: Path) -> None:
    """Named by its path."""
    with pytest.raises(OpaFailedError, match="absent"):
        await run_opa(tmp_path / "absent", "x", directory=tmp_path)


async def test_capabilities_are_those_of_this_opa_without_the_forbidden(tmp_path: Path) -> None:
    """No network and no chance; the list names nothing that this OPA does not have."""
    whole = read(await run_opa(opa_binary(), "capabilities", "--current", directory=tmp_path))
    ours = orjson.loads(await capabilities(opa_binary(), tmp_path))
    names = {builtin["name"] for builtin in whole["builtins"]}
    assert names - {builtin["name"] for builtin in ours["builtins"]} == FORBIDDEN_BUILTINS
    assert ours["allow_net"] == []
    assert ours["features"] == whole["features"]
    impure = {builtin["name"] for builtin in ours["builtins"] if builtin.get("nondeterministic")}
    assert impure == set()


def test_errors_are_told_with_the_authors_files() -> None:
    """As `file:row: sentence`; what is no error list is passed on as text."""
    listed = {
        "errors": [
            {"message": "m", "code": "c", "location": {"file": "bundle/x.rego", "row": 3}},
            {"message": "n", "code": "d"},
            {"message": "o"},
        ]
    }
    out = orjson.dumps(listed)
    names = {"bundle/x.rego": "/home/x.rego"}
    assert errors(Said(code=1, out=out, err=b""), names) == ["/home/x.rego:3: m", "d: n", "o"]
    assert errors(Said(code=1, out=b"", err=out)) == ["bundle/x.rego:3: m", "d: n", "o"]
    assert errors(Said(code=1, out=b"[1]", err=b"")) == ["[1]"]
    assert errors(Said(code=1, out=b"", err=b"at bundle/x.rego:3"), names) == ["at /home/x.rego:3"]


def test_what_cannot_be_read_is_quoted() -> None:
    """Instead of a traceback."""
    with pytest.raises(OpaFailedError, match="panic"):
        read(Said(code=2, out=b"", err=b"panic"))


async def test_an_opa_that_was_killed_has_said_nothing(tmp_path: Path) -> None:
    """By the kernel for want of memory, say: that is no word about the policy."""
    with pytest.raises(OpaFailedError, match="opa check was ended by signal 9"):
        await run_opa(script(tmp_path, "kill -9 $$"), "check", directory=tmp_path)
