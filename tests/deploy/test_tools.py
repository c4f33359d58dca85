"""deploy/tools.sh as a process: what is found on PATH and in the cache, usage, and the sentence of every failure there."""

import subprocess
import time

import pytest

from tests.deploy.machine import BINARY, OTHER_VERSION, SCRIPT, Machine, Releases, Run, executable


def test_a_tool_on_path_in_the_right_version_serves_and_nothing_else_is_touched(machine: Machine) -> None:
    on_path = machine.command("opa", BINARY)
    assert machine.run("opa") == Run(code=0, paths=[str(on_path)], said="")
    assert not machine.cache.exists()


def test_a_relative_path_entry_still_gives_an_absolute_path(machine: Machine) -> None:
    machine.command("opa", BINARY)
    assert machine.run("opa", PATH=f"bin:{machine.bin}").paths == [f"{machine.root}/bin/opa"]


def test_it_runs_from_its_own_folder_too(machine: Machine) -> None:
    """Named without any slash."""
    on_path = machine.command("opa", BINARY)
    command = ["/bin/bash", SCRIPT.name, "opa"]
    path = {"PATH": str(machine.bin), "HOME": str(machine.root)}
    done = subprocess.run(command, cwd=SCRIPT.parent, env=path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{on_path}\n", "")


@pytest.mark.parametrize("text", [OTHER_VERSION, "#!/bin/sh\necho 'Version: 1.22.2'\nexit 3\n"])
def test_a_wrong_version_on_path_is_named_and_left_alone(machine: Machine, releases: Releases, text: str) -> None:
    on_path = machine.command("opa", text)
    releases.publish(BINARY)
    run = machine.run("opa")
    assert run.code == 0
    assert run.paths == [str(machine.cached)]
    assert f"{on_path}, which is on PATH, is not version 1.22.2 or does not run; it is left alone" in run.said
    assert on_path.read_text() == text


def test_a_cache_hit_is_silent_and_asks_no_network(machine: Machine, releases: Releases) -> None:
    releases.publish(BINARY)
    executable(machine.cached, BINARY)
    started = time.monotonic()
    run = machine.run("opa")
    assert run == Run(code=0, paths=[str(machine.cached)], said="")
    assert time.monotonic() - started < 10
    assert releases.asked == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"SIDEGATE_CACHE": "", "XDG_CACHE_HOME": "{root}/xdg"}, "xdg/sidegate"),
        ({"SIDEGATE_CACHE": ""}, ".cache/sidegate"),
        ({"SIDEGATE_CACHE": "here"}, "here"),
    ],
)
def test_where_the_cache_is(machine: Machine, variables: dict[str, str], place: str) -> None:
    """The explicit directory (made absolute), else XDG's, else ~/.cache."""
    cached = executable(machine.root / place / "tools/opa-1.22.2/opa", BINARY)
    filled = {key: value.format(root=machine.root) for key, value in variables.items()}
    assert machine.run("opa", **filled).paths == [str(cached)]


def test_without_any_place_for_the_cache_it_says_so(machine: Machine) -> None:
    run = machine.run("opa", SIDEGATE_CACHE="", HOME="")
    assert run.code == 64
    assert "no place for the cache: SIDEGATE_CACHE, XDG_CACHE_HOME and HOME are all unset" in run.said


@pytest.mark.parametrize("damage", ["", "garbage\n", OTHER_VERSION])
def test_a_damaged_cached_binary_is_named_and_fetched_again(machine: Machine, releases: Releases, damage: str) -> None:
    executable(machine.cached, damage)
    releases.publish(BINARY)
    run = machine.run("opa")
    assert (run.code, run.paths) == (0, [str(machine.cached)])
    assert f"the cached {machine.cached} is damaged" in run.said
    assert machine.cached.read_text() == BINARY


def test_a_directory_in_the_binarys_place_is_replaced(machine: Machine, releases: Releases) -> None:
    (machine.cached / "inside").mkdir(parents=True)
    releases.publish(BINARY)
    assert machine.run("opa").paths == [str(machine.cached)]
    assert machine.cached.read_text() == BINARY


def test_an_unknown_tool_fails_alone(machine: Machine) -> None:
    on_path = machine.command("opa", BINARY)
    run = machine.run("nothing", "opa")
    assert (run.code, run.paths) == (1, [str(on_path)])
    assert run.said == "tools: nothing: unknown tool: it is not in the table of deploy/tools.sh\n"


@pytest.mark.parametrize(
    ("names", "only", "sentence"),
    [((), "", "name at least one tool"), (("opa",), "path,magic", "SIDEGATE_TOOLS_ONLY: unknown way 'magic'")],
)
def test_wrong_usage_is_exit_64(machine: Machine, names: tuple[str, ...], only: str, sentence: str) -> None:
    run = machine.run(*names, only=only)
    assert (run.code, run.paths) == (64, [])
    assert sentence in run.said


def test_only_the_ways_that_are_named_are_tried(machine: Machine, releases: Releases) -> None:
    machine.command("opa", BINARY)
    executable(machine.cached, BINARY)
    releases.publish(BINARY)
    assert machine.run("opa", only="path, cache").paths == [str(machine.bin / "opa")]
    assert machine.run("opa", only="go, cache").paths == [str(machine.cached)]
    assert machine.run("opa", only="cache").paths == [str(machine.cached)]
    assert machine.run("opa", only="go").code == 1
    assert releases.asked == []


def test_a_cache_that_cannot_be_written_is_named(machine: Machine, releases: Releases) -> None:
    releases.publish(BINARY)
    machine.cache.write_text("a file where the directory should be")
    run = machine.run("opa")
    assert run.code == 1
    assert f"cannot make the cache directory {machine.cache}/tools" in run.said


def test_what_a_killed_run_left_behind_is_cleared_away(machine: Machine, releases: Releases) -> None:
    releases.publish(BINARY)
    (machine.cache / "tools" / "opa-1.22.2.new.abc123" / "venv").mkdir(parents=True)
    assert machine.run("opa").code == 0
    assert machine.leftovers() == ["tools/opa-1.22.2"]
