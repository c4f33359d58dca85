"""deploy/tools.sh for redis-server: any server from 7 on that is on PATH, else Debian's package, unpacked but not installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.machine import SCRIPT, Machine, executable

DEBIAN = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian: the way `debian` has nothing to do")
SERVER = '#!/bin/sh\necho "Redis server v=7.0.15 sha=0:0 libraries=$LD_LIBRARY_PATH arguments=$*"\n'
APT = """#!/bin/sh
echo "$*" >>"$STUB_LOG"
case " $* " in
*" update "*) touch "$STUB_LISTS" ;;
*" -s "*) [ ! -e "$STUB_LISTS" ] || printf 'Inst %s (7 Debian:12 [all])\nConf libzoo\n' libzoo redis-server ;;
*" download libzoo redis-server "*) [ -e "$STUB_LISTS" ] && cp "$STUB_DEBS"/*.deb . ;;
*) exit 100 ;;
esac
"""


def package(folder: Path, name: str, path: str, text: str) -> None:
    tree = folder / name
    executable(tree / path, text)
    control = f"Package: {name}\nVersion: 7\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: for a test\n"
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(control)
    subprocess.run(["dpkg-deb", "-b", str(tree), str(folder / f"{name}_7_all.deb")], check=True, capture_output=True)
    shutil.rmtree(tree)


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """A machine with real packages and an apt-get that lists them once they are `updated`; its user is root."""
    for name in ("dpkg-deb", "tar", "find", "dirname", "sort"):
        (machine.bin / name).symlink_to(shutil.which(name) or name)
    debs = machine.root / "debs"
    package(debs, "redis-server", "usr/bin/redis-server", SERVER)
    package(debs, "libzoo", "usr/lib/zoo/libzoo.so.1", "")
    machine.command("apt-get", APT)
    machine.command("id", "#!/bin/sh\necho 0\n")
    machine.environment |= {"STUB_DEBS": str(debs), "STUB_LISTS": str(machine.root / "updated")}
    return machine


@DEBIAN
def test_the_wrapper_runs_the_unpacked_program_with_its_libraries(debian: Machine) -> None:
    (debian.root / "updated").touch()
    run = debian.run("redis-server")
    home = debian.cache / "tools" / "redis-server-7"
    assert (run.code, run.paths) == (0, [str(home / "redis-server")]), run.said
    said = subprocess.run(
        [run.paths[0], "--port", "0 0"], env={"LD_LIBRARY_PATH": "/mine"}, check=True, capture_output=True, text=True
    )
    assert f"libraries={home}/root/usr/lib/zoo:/mine arguments=--port 0 0" in said.stdout
    assert "update" not in debian.stub_log.read_text()
    assert debian.leftovers() == ["tools/redis-server-7"]


@DEBIAN
def test_a_damaged_unpacked_program_is_unpacked_anew(debian: Machine) -> None:
    (debian.root / "updated").touch()
    program = debian.run("redis-server").paths[0]
    (Path(program).parent / "root" / "usr" / "bin" / "redis-server").write_text("#!/bin/sh\nexit 1\n")
    again = debian.run("redis-server")
    assert (again.code, again.paths) == (0, [program])
    assert "is damaged" in again.said


@DEBIAN
def test_root_refreshes_missing_package_lists_once(debian: Machine) -> None:
    run = debian.run("redis-server")
    assert run.code == 0, run.said
    assert debian.stub_log.read_text().count("update") == 1


@DEBIAN
def test_who_is_not_root_is_told_to_refresh_them(debian: Machine) -> None:
    debian.command("id", "#!/bin/sh\necho 1000\n")
    run = debian.run("redis-server")
    assert (run.code, run.paths, debian.leftovers()) == (1, [], [])
    assert "package lists do not hold redis-server" in run.said
    assert "the package lists may be missing or old; as root: apt-get update" in run.said
    assert "update" not in debian.stub_log.read_text()


@DEBIAN
def test_another_version_in_debian_is_refused(debian: Machine) -> None:
    (debian.root / "updated").touch()
    package(debian.root / "debs", "redis-server", "usr/bin/redis-server", SERVER.replace("7.0.15", "6.0.16"))
    run = debian.run("redis-server")
    assert (run.code, run.paths) == (1, [])
    assert "the unpacked program does not run or reports another version" in run.said


def test_a_machine_without_apt_says_so(machine: Machine) -> None:
    run = machine.run("redis-server", only="debian")
    assert (run.code, run.paths) == (1, [])
    assert "no apt-get on PATH" in run.said


@pytest.mark.parametrize(
    ("name", "version", "served"),
    [
        ("redis-server", "Redis server v=7.0.15 sha=0", True),
        ("redis-server", "Redis server v=10.2.0 sha=0", True),
        ("redis-server", "Redis server v=6.2.7 sha=0", False),
        ("valkey-server", "Valkey server v=8.0.1 sha=0", True),
    ],
)
def test_any_server_from_seven_on_serves_if_it_is_on_path(
    machine: Machine, name: str, version: str, served: bool
) -> None:
    on_path = machine.command(name, f"#!/bin/sh\necho '{version}'\n")
    run = machine.run("redis-server", only="path")
    assert (run.code, run.paths) == ((0, [str(on_path)]) if served else (1, []))
    assert served or "is not version 7+ or does not run; it is left alone" in run.said


def test_valkey_serves_where_redis_is_too_old(machine: Machine) -> None:
    machine.command("redis-server", "#!/bin/sh\necho 'Redis server v=6.2.7 sha=0'\n")
    valkey = machine.command("valkey-server", "#!/bin/sh\necho 'Valkey server v=8.0.1 sha=0'\n")
    assert machine.run("redis-server", only="path").paths == [str(valkey)]


@DEBIAN
@pytest.mark.slow
def test_debians_package_runs_from_the_cache(tmp_path: Path) -> None:
    """The real one, with what it needs, not installed."""
    environment = os.environ | {"SIDEGATE_CACHE": str(tmp_path), "SIDEGATE_TOOLS_ONLY": "cache,debian"}
    done = subprocess.run(
        ["bash", str(SCRIPT), "redis-server"], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = subprocess.run([done.stdout.strip(), "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith("Redis server v=")
