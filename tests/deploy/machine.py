"""A machine to run deploy/tools.sh on: a PATH that holds nothing but what a test puts there, stubs, fake releases."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "deploy" / "tools.sh"
RELEASE = "/open-policy-agent/opa/releases/download/v1.22.2/"
COMMANDS: tuple[str, ...] = (
    "awk",
    "bash",
    "cat",
    "chmod",
    "cp",
    "curl",
    "cut",
    "env",
    "flock",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sh",
)
COMMANDS += ("sha256sum", "sleep", "tail", "timeout", "touch", "tr", "uname")
BINARY = "#!/bin/sh\necho 'Version: 1.22.2'\necho 'Build Commit: none'\n"
OTHER_VERSION = "#!/bin/sh\necho 'Version: 1.22.20'\n"
GO_GOOD = f"""#!/bin/sh
echo "$*" >>"$STUB_LOG"
echo "CGO_ENABLED=$CGO_ENABLED GOFLAGS=$GOFLAGS GOOS=${{GOOS-unset}}" >>"$STUB_LOG"
mkdir -p "$GOBIN"
cat >"$GOBIN/opa" <<'END'
{BINARY}END
chmod 755 "$GOBIN/opa"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished run of the script."""

    code: int
    paths: list[str]
    said: str


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine to run the script on: its own PATH, cache, home and environment."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def cached(self) -> Path:
        return self.cache / "tools" / "opa-1.22.2" / "opa"

    @property
    def stub_log(self) -> Path:
        return self.root / "stub.log"

    def start(self, *names: str, only: str = "", **extra: str) -> "subprocess.Popen[str]":
        environment = {
            "PATH": str(self.bin),
            "HOME": str(self.root),
            "SIDEGATE_CACHE": str(self.cache),
            "SIDEGATE_TOOLS_ONLY": only,
            "STUB_LOG": str(self.stub_log),
        }
        environment |= self.environment | extra
        command = ["/bin/bash", str(SCRIPT), *names]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=self.root)

    def run(self, *names: str, only: str = "", **extra: str) -> Run:
        process = self.start(*names, only=only, **extra)
        return finish(process)

    def command(self, name: str, text: str) -> Path:
        """Puts a stub command on the machine's PATH."""
        return executable(self.bin / name, text)

    def leftovers(self) -> list[str]:
        """Everything in the cache but lock files, which stay."""
        return sorted(str(p.relative_to(self.cache)) for p in self.cache.glob("tools/*") if p.suffix != ".lock")


def finish(process: "subprocess.Popen[str]") -> Run:
    out, err = process.communicate(timeout=60)
    return Run(code=process.returncode, paths=out.splitlines(), said=err)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        threading.Event().wait(0.02)


@dataclass(slots=True, kw_only=True)
class Releases:
    """A loopback server of release files by path; `asked` holds the paths requested, in order."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, binary: str, checksum: str | None = None) -> None:
        """Publishes the binary for every platform, with `checksum` as the checksum file, `{asset}` filled in."""
        digest = hashlib.sha256(binary.encode()).hexdigest()
        text = f"{digest}  {{asset}}\n" if checksum is None else checksum
        for asset in ("linux_amd64_static", "linux_arm64_static", "darwin_amd64", "darwin_arm64_static"):
            path = f"{RELEASE}opa_{asset}"
            self.files[path] = binary.encode()
            self.files[f"{path}.sha256"] = text.replace("{asset}", f"opa_{asset}").encode()


def use_python(machine: Machine) -> None:
    """Puts the Python that runs these tests on the machine's PATH."""
    machine.command("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
