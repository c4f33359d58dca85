"""deploy/tools.sh for the tools that only tests and operators need: modules with hashes, archives, Debian's packages."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.deploy.machine import SCRIPT, Machine, Releases, executable

MODULES = SCRIPT.parent / "tools"
ETCD = "#!/bin/sh\necho 'etcd Version: 3.7.3'\n"


def archive(member: str, text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size, entry.mode = len(text), 0o755
        tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def use_tar(machine: Machine) -> None:
    for name in ("tar", "gzip"):
        (machine.bin / name).symlink_to(shutil.which(name) or name)


def offer(releases: Releases, packed: bytes, *, digest: str | None = None) -> None:
    folder, asset = "/etcd-io/etcd/releases/download/v3.7.3/", "etcd-v3.7.3-linux-amd64.tar.gz"
    releases.files[folder + asset] = packed
    line = f"{digest or hashlib.sha256(packed).hexdigest()}  {asset}\n"
    releases.files[folder + "SHA256SUMS"] = ("0" * 64 + "  other.zip\n" + line).encode()


@pytest.fixture
def amd64(machine: Machine) -> Machine:
    (machine.bin / "uname").unlink()
    machine.command("uname", "#!/bin/sh\ncase $1 in -s) echo Linux ;; *) echo x86_64 ;; esac\n")
    use_tar(machine)
    return machine


def test_a_program_is_taken_out_of_the_checked_archive(amd64: Machine, releases: Releases) -> None:
    offer(releases, archive("etcd-v3.7.3-linux-amd64/etcd", ETCD))
    run = amd64.run("etcd", only="cache,release")
    assert (run.code, run.paths) == (0, [str(amd64.cache / "tools" / "etcd-3.7.3" / "etcd")])
    assert amd64.run("etcd", only="cache").paths == run.paths


def test_an_archive_with_another_checksum_is_not_opened(amd64: Machine, releases: Releases) -> None:
    offer(releases, archive("etcd-v3.7.3-linux-amd64/etcd", ETCD), digest="1" * 64)
    run = amd64.run("etcd", only="release")
    assert (run.code, run.paths, amd64.leftovers()) == (1, [], [])
    assert "differs from the published one" in run.said


def test_an_archive_without_the_program_is_named(amd64: Machine, releases: Releases) -> None:
    offer(releases, archive("elsewhere/etcd", ETCD))
    run = amd64.run("etcd", only="release")
    assert (run.code, run.paths) == (1, [])
    assert "holds no etcd-v3.7.3-linux-amd64/etcd" in run.said


@pytest.mark.parametrize("module", sorted(p.name for p in MODULES.iterdir()))
def test_each_module_pins_its_tool_and_every_hash(module: str) -> None:
    """What `tools.sh` says is what go.mod requires; go.sum has a hash for it; nothing names an index."""
    folder = MODULES / module
    text, sums = (folder / "go.mod").read_text(), (folder / "go.sum").read_text()
    imported = re.search(r'import _ "(\S+)"', (folder / "tools.go").read_text())
    assert imported is not None
    script = SCRIPT.read_text()
    entry = script[script.index(f"    {module})") :]
    version = re.search(r"version=([0-9.]+)", entry)
    package = re.search(r"package=(\S+)", entry)
    assert version is not None
    assert package is not None
    assert package[1] == imported[1]
    pinned = re.search(rf"^\s*(?:require )?({_module(package[1])}\S*) v{re.escape(version[1])}$", text, re.MULTILINE)
    assert pinned is not None
    assert f"{pinned[1]} v{version[1]} h1:" in sums
    assert "proxy" not in re.sub(r"/\S*proxy\S*|kube-proxy", "", text)


def _module(package: str) -> str:
    return "/".join(package.split("/")[:3]) if package.startswith("github.com") else "/".join(package.split("/")[:2])


def test_a_module_is_built_from_its_hashes_only(machine: Machine) -> None:
    machine.command(
        "go",
        '#!/bin/sh\necho "$* GOFLAGS=$GOFLAGS" >>"$STUB_LOG"\nfor last; do :; done\n'
        'while [ "$1" != -o ]; do [ "$1" != -C ] || cp "$2/go.sum" "$STUB_LOG.sum"; shift; done\n'
        'mkdir -p "${2%/*}" && printf "%s" "$ETCD" >"$2" && chmod 755 "$2"\n',
    )
    run = machine.run("etcd", only="go", ETCD=ETCD)
    assert run.code == 0, run.said
    said = machine.stub_log.read_text()
    assert "GOFLAGS=-mod=readonly" in said
    assert "build -trimpath" in said
    assert Path(f"{machine.stub_log}.sum").read_bytes() == (MODULES / "etcd" / "go.sum").read_bytes()


DEBIAN = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian: the way `debian` has nothing to do")


@DEBIAN
@pytest.mark.slow
def test_debians_package_runs_from_the_cache(tmp_path: Path) -> None:
    """With what it needs, not installed; a damaged one is unpacked anew."""
    environment = os.environ | {"SIDEGATE_CACHE": str(tmp_path), "SIDEGATE_TOOLS_ONLY": "cache,debian"}
    asked = ["bash", str(SCRIPT), "redis-server"]
    first = subprocess.run(asked, env=environment, check=True, capture_output=True, text=True)
    program = Path(first.stdout.strip())
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith("Redis server v=7.")
    program.write_text("#!/bin/sh\nexit 1\n")
    again = subprocess.run(asked, env=environment, check=True, capture_output=True, text=True)
    assert again.stdout == first.stdout
    assert "is damaged" in again.stderr


def test_a_machine_without_apt_says_so(machine: Machine) -> None:
    run = machine.run("redis-server", only="debian")
    assert (run.code, run.paths) == (1, [])
    assert "no apt-get on PATH" in run.said


def test_what_debian_does_not_list_is_named(machine: Machine) -> None:
    executable(machine.bin / "apt-get", "#!/bin/sh\nexit 0\n")
    machine.command("id", "#!/bin/sh\necho 1000\n")
    run = machine.run("redis-server", only="debian")
    assert run.code == 1
    assert "do not hold redis-server (as root: apt-get update)" in run.said
