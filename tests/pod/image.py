"""The image, built from deploy/Dockerfile with buildah on a base of Debian packages, and its root, extracted.

No registry is asked: the base is made by mmdebstrap, OPA's image holds the pinned binary, wheels come from a wheelhouse that
is filled outside the build. All of it is kept in the cache, by content: a second run builds nothing.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pod.debian import cache, with_programs

REPO = Path(__file__).parents[2]
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
UNREAD = ("doc", "man", "locale")  # what python:slim leaves out of its base, too
UNCOMPILED = (
    'find "$1/usr" -name "*.pyc" -delete'  # as python:slim has its standard library: Debian's would hide a slow start
)
_BASE = f"{BASE_PACKAGES} {UNCOMPILED}".encode()  # what it is told apart by
UNREAD_LOCKS = ("demo", "test")
STORE_LIMIT = 3_000_000_000  # bytes; a store that has grown beyond it is made anew
SECONDS = 900
# Under `chroot` isolation buildah takes the limits of its caller as they are; the build is to run within plain ones.
_BUILD = """
set -eu
buildah() { command buildah --root "$STORE/root" --runroot "$STORE/run" "$@"; }
policy="--signature-policy=$STORE/policy.json"
have() { buildah images --format '{{.Digest}}' "localhost/$1:$2" 2>/dev/null; }
# import NAME TAG WORKING-COMMAND...: one layer from nothing
import() {
  have "$1" "$2" >/dev/null && return 0
  container=$(buildah from scratch)
  buildah "$3" -q "$container" "$4" "$5" >/dev/null
  buildah commit -q --rm "$policy" "$container" "localhost/$1:$2" >/dev/null
}
import base "$BASE_TAG" add "$BASE_TAR" /
import opa "$OPA_TAG" copy "$OPA_BINARY" /opa
base=${BASE:-localhost/base@$(have base "$BASE_TAG")} opa=${OPA:-localhost/opa@$(have opa "$OPA_TAG")}
buildah build --isolation chroot --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --layers --pull-never "$policy" \
  --registries-conf="$STORE/registries.conf" --build-arg BASE="$base" --build-arg OPA="$opa" \
  --build-arg PIP_INDEX_URL= --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels --build-arg REVISION="$REVISION" \
  --volume "$WHEELS:/wheels:ro" --file deploy/Dockerfile --tag localhost/sidegate:test . >&2
container=$(buildah from --pull-never localhost/sidegate:test)
trap 'buildah rm "$container" >/dev/null' EXIT
cp -a "$(buildah mount "$container")" "$OUT/root"
rmdir "$OUT/root/wheels" # where --volume was mounted; only a build of ours has one
buildah inspect --type image localhost/sidegate:test >"$OUT/image.json"
buildah images --json localhost/sidegate:test >"$OUT/listed.json"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that was built: its root in a folder, and its configuration (OCI image specification)."""

    root: Path
    config: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        files = (path.lstat() for path in self.root.rglob("*"))
        return sum({(f.st_dev, f.st_ino): f.st_size for f in files}.values())


_failed: dict[Path, str] = {}


def build() -> Image:
    """The image of this checkout as it stands. Raises AssertionError with the last lines of the step that failed."""
    with _alone():
        inputs = _inputs()
        out = cache() / f"image-{_digest(inputs)}"
        if out in _failed:  # the next of fifty tests need not wait for the same fault
            raise AssertionError(_failed[out])
        if not (out / "listed.json").exists():
            for old in sorted(cache().glob("image-*"), key=lambda path: path.stat().st_mtime)[:-1]:
                shutil.rmtree(old)
            try:
                _build(out, inputs)
            except AssertionError as fault:
                _failed[out] = str(fault)
                raise
    return Image(root=out / "root", config=json.loads((out / "image.json").read_text())["OCIv1"]["config"])


def refused_build(**arguments: str) -> str:
    """What a build with other arguments (BASE, OPA) says when it fails."""
    out = cache() / "refused"
    with _alone():
        try:
            _build(out, _inputs(), **arguments)
        except AssertionError as refusal:
            return str(refusal)
        finally:
            shutil.rmtree(out, ignore_errors=True)
    raise AssertionError(f"the image was built with {arguments}")


def tags() -> dict[str, str]:
    """The tags under which the images of BASE and OPA are in the store of builds, once there was one."""
    return {"BASE": _base().stem, "OPA": _opa_tag(_opa())}


@contextmanager
def _alone() -> Iterator[None]:
    """Builders take turns."""
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(out: Path, inputs: dict[str, bytes], **arguments: str) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    store = cache() / "store"
    if store.exists() and int(_said(["du", "-sxb", str(store)]).split()[0]) > STORE_LIMIT:
        shutil.rmtree(store)
    store.mkdir(exist_ok=True)
    (store / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (store / "registries.conf").write_text("unqualified-search-registries = []\n")
    opa, base = _opa(), _base()
    variables = {
        "STORE": str(store),
        "OUT": str(out),
        "BASE_TAR": str(base),
        "BASE_TAG": base.stem,
        "OPA_BINARY": str(opa),
        "OPA_TAG": _opa_tag(opa),
        "WHEELS": str(_wheelhouse(inputs)),
        "REVISION": _said(["git", "rev-parse", "HEAD"]).strip(),
        **arguments,
    }
    _said([*with_programs("buildah"), "sh", "-c", _BUILD], variables)


def _opa() -> Path:
    return Path(_said(["bash", "deploy/tools.sh", "opa"]).strip())


def _opa_tag(opa: Path) -> str:
    return hashlib.sha256(opa.read_bytes()).hexdigest()[:12]


def _base() -> Path:
    """Debian with a Python, as a tar file, made once."""
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release["VERSION_CODENAME"]
    made = cache() / f"base-{suite}-{_digest({'base': _BASE})}.tar"
    if not made.exists():
        draft = made.with_suffix(".draft.tar")
        # The machine's own package sources, wherever they are.
        sources = [str(path) for path in Path("/etc/apt").rglob("*") if path.suffix in {".list", ".sources"}]
        no_more = '--aptopt=APT::Install-Recommends "false"'
        include = f"--include={BASE_PACKAGES}"
        hook = f"--customize-hook={UNCOMPILED}"
        command = ["mmdebstrap", "--variant=minbase", no_more, *options, include, hook, suite, str(draft), *sources]
        _said([*with_programs("mmdebstrap"), *command])
        draft.rename(made)
    return made


def _wheelhouse(inputs: dict[str, bytes]) -> Path:
    """The locked packages as wheels. Markers go: the image's Python may be another patch release than ours."""
    locks = {name: content for name, content in inputs.items() if name.startswith("deploy/locks/")}
    made = cache() / f"wheels-{_digest(locks)}"
    if not made.exists():
        draft = cache() / "wheels.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        files = []
        for name, content in locks.items():
            path = draft / Path(name).name
            path.write_text(re.sub(r" ; [^\\\n]+", "", content.decode()))
            files += ["-r", str(path)]
        fixed = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--python-version", "3.11"]
        _said([sys.executable, "-m", "pip", "download", "-q", *fixed, "--dest", str(draft), *files])
        draft.rename(made)
    return made


def _inputs() -> dict[str, bytes]:
    """All files that go into the image, as .dockerignore lets them in, and what it is built by."""
    let_in = [REPO / line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    paths = [
        REPO / "deploy" / "Dockerfile",
        REPO / ".dockerignore",
        *let_in,
        *(p for d in let_in for p in d.rglob("*")),
    ]
    files = [path for path in paths if path.is_file() and path.suffix != ".pyc" and path.stem not in UNREAD_LOCKS]
    return {str(path.relative_to(REPO)): path.read_bytes() for path in files} | {
        "build": _BUILD.encode(),
        "base": _BASE,
    }


def _digest(contents: dict[str, bytes]) -> str:
    named = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(contents.items()))
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def _said(command: list[str], variables: dict[str, str] | None = None) -> str:
    """Standard output of a command in the checkout."""
    done = subprocess.run(
        command,
        cwd=REPO,
        env=os.environ | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode:
        raise AssertionError(
            f"{command[:4]} ended with {done.returncode}:\n{done.stdout[-500:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout
