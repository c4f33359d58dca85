"""deploy/tools.sh as a process: the release way, against a loopback server of releases."""

import hashlib
import time
from pathlib import Path

import pytest

from tests.deploy.machine import (
    BINARY,
    OTHER_VERSION,
    Machine,
    Releases,
    use_python,
)


def test_the_release_is_fetched_checked_and_cached(machine: Machine, releases: Releases) -> None:
    releases.publish(BINARY)
    run = machine.run("opa")
    assert (run.code, run.paths) == (0, [str(machine.cached)])
    assert "no Go toolchain on PATH" in run.said
    assert [Path(path).suffix for path in releases.asked] == [".sha256", ""]
    assert machine.leftovers() == ["tools/opa-1.22.2"]
    assert machine.run("opa", only="cache").paths == run.paths


def test_without_curl_python_downloads(machine: Machine, releases: Releases) -> None:
    (machine.bin / "curl").unlink()
    use_python(machine)
    releases.publish(BINARY)
    assert machine.run("opa", only="release").paths == [str(machine.cached)]
    releases.files.clear()
    run = machine.run("opa", only="release")
    assert run.code == 1
    assert "HTTP Error 404" in run.said


def test_without_curl_and_python_it_says_so(machine: Machine, releases: Releases) -> None:
    (machine.bin / "curl").unlink()
    assert "neither curl nor python3 is on PATH to download with" in machine.run("opa", only="release").said
    assert releases.asked == []


@pytest.mark.parametrize("checksum", ["{digest}\n", "{DIGEST} *{asset}\n", "{zeros}  other\n{digest}  ./{asset}\n"])
def test_forms_of_checksum_files_that_are_understood(machine: Machine, releases: Releases, checksum: str) -> None:
    digest = hashlib.sha256(BINARY.encode()).hexdigest()
    text = checksum.replace("{digest}", digest).replace("{DIGEST}", digest.upper()).replace("{zeros}", "0" * 64)
    releases.publish(BINARY, text)
    assert machine.run("opa", only="release").code == 0


def refused(machine: Machine, sentence: str) -> None:
    """The release way ends with this sentence, no path, and an empty cache."""
    run = machine.run("opa", only="release")
    assert (run.code, run.paths) == (1, [])
    assert sentence in run.said
    assert "opa 1.22.2: could not be had by any of: release" in run.said
    assert machine.leftovers() == []


def test_another_checksum_throws_the_download_away(machine: Machine, releases: Releases) -> None:
    releases.publish(BINARY, "0" * 64 + "  {asset}\n")
    refused(machine, "differs from the published one; the download is thrown away")


@pytest.mark.parametrize(
    "checksum",
    [
        "",
        "<html>not here</html>\n",
        "0" * 63 + "\n",
        "g" * 64 + "\n",
        "0" * 64 + "  another_file\n",
        ("0" * 64 + "\n") * 2,
    ],
)
def test_a_malformed_checksum_file_is_refused(machine: Machine, releases: Releases, checksum: str) -> None:
    releases.publish(BINARY, checksum)
    refused(machine, "is malformed: it does not hold exactly one SHA-256 for opa_")
    assert len(releases.asked) == 1


@pytest.mark.parametrize("binary", [OTHER_VERSION, "\x7fELF no more"])
def test_a_download_that_is_not_the_tool_is_refused(machine: Machine, releases: Releases, binary: str) -> None:
    releases.publish(binary)
    refused(machine, "the downloaded binary does not run or reports another version")


def test_a_missing_release_is_a_failed_download(machine: Machine, releases: Releases) -> None:
    assert releases.url
    refused(machine, "_static.sha256 failed:\ntools:   | curl: (22)")


def test_without_a_server_the_release_way_fails_fast(machine: Machine) -> None:
    """Nobody listens on port 1 of loopback: seconds, not minutes."""
    machine.environment["SIDEGATE_TOOLS_BASE_URL"] = "http://127.0.0.1:1"
    started = time.monotonic()
    refused(machine, "tools:   | curl: (7)")
    assert time.monotonic() - started < 30


def test_a_platform_without_release_is_named(machine: Machine, releases: Releases) -> None:
    (machine.bin / "uname").unlink()
    machine.command("uname", "#!/bin/sh\ncase $1 in -s) echo Plan9 ;; *) echo mips ;; esac\n")
    refused(machine, "no official release of it is used on plan9_mips")
    assert releases.asked == []
