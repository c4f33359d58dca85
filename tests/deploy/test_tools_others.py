"""deploy/tools.sh for the tools that only tests and operators need: the table, archives, modules with hashes."""

import hashlib
import io
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.deploy.machine import SCRIPT, Machine, Releases

MODULES = SCRIPT.parent / "tools"
ETCD = "#!/bin/sh\necho 'etcd Version: 3.7.3'\n"
ETCD_PATH = "/etcd-io/etcd/releases/download/v3.7.3/etcd-v3.7.3-linux-amd64.tar.gz"
SUMS = "SHA256SUMS"


def archive(member: str, text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size, entry.mode = len(text), 0o755
        tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def offer(releases: Releases, path: str, packed: bytes, *, sums: str = SUMS, digest: str | None = None) -> None:
    """Publishes the asset at `path`, and beside it, as `sums`, a checksum file that holds another asset's line, too."""
    folder, asset = path.rsplit("/", 1)
    releases.files[path] = packed
    line = f"{digest or hashlib.sha256(packed).hexdigest()} *{asset}\n"
    releases.files[f"{folder}/{sums}"] = ("0" * 64 + "  other.zip\n" + line).encode()


def stand_on(machine: Machine, system: str, processor: str) -> None:
    (machine.bin / "uname").unlink()
    machine.command("uname", f"#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {processor} ;; esac\n")


@pytest.fixture
def amd64(machine: Machine) -> Machine:
    stand_on(machine, "Linux", "x86_64")
    for name in ("tar", "gzip"):
        (machine.bin / name).symlink_to(shutil.which(name) or name)
    return machine


RELEASED = [
    ("etcd-3.7.3", ETCD_PATH, SUMS, "etcd-v3.7.3-linux-amd64/etcd", "etcd Version: 3.7.3"),
    ("helm-4.3.1", "/helm-v4.3.1-linux-amd64.tar.gz", "", "linux-amd64/helm", "v4.3.1"),
    (
        "jaeger-1.76.0",
        "/jaegertracing/jaeger/releases/download/v1.76.0/jaeger-2.13.0-linux-amd64.tar.gz",
        "jaeger-2.13.0.sha256sum.txt",
        "jaeger-2.13.0-linux-amd64/jaeger",
        '{"gitCommit":"1","gitVersion":"v2.13.0","buildDate":"2"}',
    ),
    (
        "promtool-0.316.0",
        "/prometheus/prometheus/releases/download/v3.16.0/prometheus-3.16.0.linux-amd64.tar.gz",
        "sha256sums.txt",
        "prometheus-3.16.0.linux-amd64/promtool",
        "promtool, version 3.16.0 (branch: HEAD, revision: 1)",
    ),
    ("kube-apiserver-1.37.2", "/v1.37.2/bin/linux/amd64/kube-apiserver", ".sha256", "", "Kubernetes v1.37.2"),
]


@pytest.mark.parametrize(("place", "path", "sums", "member", "version"), RELEASED, ids=[row[0] for row in RELEASED])
def test_a_program_is_taken_out_of_the_checked_release(
    amd64: Machine, releases: Releases, place: str, path: str, sums: str, member: str, version: str
) -> None:
    """The release that the project publishes for the pinned code, in its form; a later one is refused."""
    name = place.rsplit("-", 1)[0]
    sums = sums if not sums.startswith(".") and sums else path.rsplit("/", 1)[1] + (sums or ".sha256sum")

    def publish(said: str) -> None:
        text = f"#!/bin/sh\necho '{said}'\n"
        offer(releases, path, archive(member, text) if member else text.encode(), sums=sums)

    publish(re.sub(r"([0-9])(?=$|[ \"])", r"\g<1>9", version))
    assert amd64.run(name, only="release").code == 1
    publish(version)
    run = amd64.run(name, only="cache,release")
    assert (run.code, run.paths) == (0, [str(amd64.cache / "tools" / place / name)]), run.said
    assert amd64.run(name, only="cache").paths == run.paths


def test_an_archive_with_another_checksum_is_not_opened(amd64: Machine, releases: Releases) -> None:
    offer(releases, ETCD_PATH, archive("etcd-v3.7.3-linux-amd64/etcd", ETCD), digest="1" * 64)
    run = amd64.run("etcd", only="release")
    assert (run.code, run.paths, amd64.leftovers()) == (1, [], [])
    assert "differs from the published one" in run.said


def test_an_archive_without_the_program_is_named(amd64: Machine, releases: Releases) -> None:
    offer(releases, ETCD_PATH, archive("elsewhere/etcd", ETCD))
    run = amd64.run("etcd", only="release")
    assert (run.code, run.paths) == (1, [])
    assert "holds no etcd-v3.7.3-linux-amd64/etcd" in run.said
    assert "the downloaded binary" not in run.said  # nothing is judged that was not there


def table() -> list[str]:
    """Every tool that `describe` knows."""
    script = SCRIPT.read_text()
    entries = script[script.index("describe() {") : script.index("*) return 1 ;;")]
    return re.findall(r"^    ([a-z-]+)\)", entries, re.MULTILINE)


def test_every_entry_of_the_table_is_complete(machine: Machine, releases: Releases) -> None:
    """Each is built from its pinned version, comes from Debian, or is carried by a wheel; what is built has a release on
    Linux, and a hash or a version of the Go module that the checksum database vouches for."""
    others = {"opa", "redis-server", "valkey-server", "docker-registry"}
    assert set(table()) == others | {row[0].rsplit("-", 1)[0] for row in RELEASED}
    machine.command("go", '#!/bin/sh\necho "$*" >>"$STUB_LOG"\nexit 1\n')
    stand_on(machine, "Linux", "x86_64")
    for name in table():
        releases.asked.clear()
        machine.stub_log.unlink(missing_ok=True)
        run = machine.run(name, only="go,debian,release,wheel")
        built = machine.stub_log.exists()
        assert [built, "no apt-get on PATH" in run.said, f"the wheel of {name}" in run.said].count(True) == 1, name
        assert len(releases.asked) == built, name
        if built:
            said = machine.stub_log.read_text()
            assert re.search(r"^install .*@v[0-9.]+$", said) or (MODULES / name / "go.sum").exists(), name


def test_on_macos_only_what_is_published_for_it_is_asked_for(machine: Machine, releases: Releases) -> None:
    stand_on(machine, "Darwin", "arm64")
    for name in table():
        machine.run(name, only="release")
    assert [path.rsplit("/", 1)[1] for path in releases.asked] == [
        "opa_darwin_arm64_static.sha256",
        "helm-v4.3.1-darwin-arm64.tar.gz.sha256sum",
    ]


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
