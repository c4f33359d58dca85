"""`sidegate audit` on real journals."""

import asyncio
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
from proxy.cli.main import main

JANE = {"id": "https://idp#jane", "name": "Jane"}
RECORDS: list[dict[str, Any]] = [
    {"kind": "registered", "conversation": "k1", "principal": JANE},
    {"kind": "intent", "call": "c1", "conversation": "k1", "tool": "get_stock", "trace": "t1", "principal": JANE},
    {"kind": "terminal", "call": "c1", "conversation": "k1", "tool": "get_stock", "outcome": "done", "principal": JANE},
    {
        "kind": "terminal",
        "call": "c2",
        "conversation": "k2",
        "tool": "order",
        "outcome": "refused",
        "code": "denied",
        "decision": {"effect": "deny", "reasons": [{"policy": "arguments", "code": "over_limit"}]},
        "principal": {"id": "https://idp#bob", "name": "B\u202eob"},
    },
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory's journal with four records."""

    async def write() -> None:
        journal = Journal.open(tmp_path / "state" / "journal", chain="pod-a", clock=SystemClock(), reserve_bytes=4096)
        for record in RECORDS:
            journal.append(record)
        await journal.close()

    asyncio.run(write())
    return tmp_path / "state" / "journal"


def process(*words: str | Path, stdin: bytes | None = None, cwd: Path | None = None) -> tuple[int, str, str]:
    """The command as a process, with something piped into it or not: exit code, output, errors."""
    command = [sys.executable, "-m", "proxy.cli", "audit", *map(str, words)]
    given: Any = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, **given, capture_output=True, check=False, cwd=cwd, env=root)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def sidegate(*words: str | Path) -> tuple[int, str, str]:
    """The same in this process, where neither standard input nor the working directory matters."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(["audit", *map(str, words)])
    return code, out.getvalue(), err.getvalue()


def segment(directory: Path) -> Path:
    (path,) = directory.glob("*.jsonl")
    return path


def test_an_untouched_journal_verifies_and_tells_its_head(directory: Path) -> None:
    code, out, _ = process("verify", cwd=directory.parents[1])
    assert code == 0
    assert out.startswith("ok: 5 records in 1 segment of chain pod-a; head 5:")
    head = out.split()[-1]
    assert sidegate("verify", "--dir", directory, "--head", head)[0] == 0
    assert sidegate("verify", segment(directory), "--head", head)[0] == 0
    assert process("verify", "-", stdin=segment(directory).read_bytes())[0] == 0


def test_one_flipped_byte_fails_and_says_file_line_and_offset(directory: Path) -> None:
    path = segment(directory)
    data = bytearray(path.read_bytes())
    offset = data.index(b"get_stock")
    data[offset] ^= 4
    path.write_bytes(data)
    start = data.rindex(b"\n", 0, offset) + 1
    code, out, _ = sidegate("verify", directory)
    assert code == 1
    assert f"FAILED: {path}, line 3, byte offset {start}: " in out
    code, out, _ = sidegate("verify", "--json", directory)
    verdict = json.loads(out)
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["chains"]["pod-a"]["place"] == {"file": str(path), "line": 3, "offset": start}


def test_a_cut_tail_fails_against_a_head_kept_elsewhere(directory: Path) -> None:
    head = sidegate("verify", directory)[1].split()[-1]
    path = segment(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert sidegate("verify", directory)[0] == 0
    code, out, _ = sidegate("verify", directory, "--head", head)
    assert code == 1
    assert "cut off" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("verify", "/nowhere"), "neither a journal directory nor a segment file"),
        (("verify",), "neither a journal directory"),
        (("verify", "."), "there is no journal"),
        (("verify", "-", "x"), "standard input, alone"),
        (("find", "--since", "yesterday", "-"), "is no time"),
        (("verify", "-", "--head", "x"), "SEQ:HASH"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_64(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    code, _, err = process(*words, cwd=tmp_path)
    assert code == 64
    assert sentence in err
    assert "Traceback" not in err


def test_a_head_belongs_to_one_chain(directory: Path) -> None:
    (directory / "pod-b-000000000001.jsonl").write_bytes(segment(directory).read_bytes().replace(b"pod-a", b"pod-b"))
    code, out, _ = sidegate("verify", directory)
    assert code == 1
    assert "of chain pod-a" in out
    assert "of chain pod-b" in out
    assert sidegate("verify", directory, "--head", "1:" + "0" * 64)[0] == 64


def test_show_tells_the_story_of_a_conversation_a_trace_or_a_call(directory: Path) -> None:
    code, out, _ = sidegate("show", "k1", directory)
    assert code == 0
    assert [line[26:] for line in out.splitlines() if line.startswith("2")] == [
        "conversation k1 registered (?)",
        "call c1: get_stock is allowed and will run",
        "call c1: get_stock done",
    ]
    assert "will run" in sidegate("show", "t1", "--dir", directory)[1]
    assert "over_limit" in process("show", "c2", "-", stdin=segment(directory).read_bytes())[1]
    code, out, err = sidegate("show", "c9", directory)
    assert (code, out, err) == (1, "", "nothing found\n")


@pytest.mark.parametrize(
    ("conditions", "calls"),
    [
        (("--principal", "Jane"), [None, "c1", "c1"]),
        (("--principal", "https://idp#bob"), ["c2"]),
        (("--tool", "get_stock"), ["c1", "c1"]),
        (("--code", "denied"), ["c2"]),
        (("--code", "over_limit"), ["c2"]),
        (("--conversation", "k2"), ["c2"]),
        (("--conversation", "k1", "--tool", "order"), []),
        (("--tool", "order", "--since", "2020-01-01", "--until", "2999-01-01T00:00:00Z"), ["c2"]),
        (("--until", "2020-01-01"), []),
        (("--since", "2999-01-01"), []),
    ],
)
def test_find_takes_every_condition_together(
    directory: Path, conditions: tuple[str, ...], calls: list[str | None]
) -> None:
    code, out, _ = sidegate("find", *conditions, "--json", directory)
    assert [record.get("call") for record in json.loads(out)] == calls
    assert code == (0 if calls else 1)


def test_find_prints_one_safe_line_a_record(directory: Path) -> None:
    code, out, _ = sidegate("find", "--tool", "order", directory)
    assert code == 0
    (line,) = out.splitlines()
    assert line.endswith("call c2: order refused: denied [B\\u202eob (https://idp#bob)]")


def test_lines_that_cannot_be_read_are_announced(directory: Path) -> None:
    with segment(directory).open("ab") as file:
        file.write(b'{"seq":6,"half')
    code, out, err = sidegate("show", "c1", directory)
    assert code == 0
    assert "will run" in out
    assert "1 lines could not be read" in err


@pytest.mark.parametrize("words", [("find", "--tool", "order"), ("show", "c2")])
def test_what_is_piped_is_read_also_without_a_dash(directory: Path, words: tuple[str, ...]) -> None:
    """And not the directory that is there, too; a directory that is named goes before what is piped."""
    log = b"another line\n" + segment(directory).read_bytes().replace(b"order", b"plant")
    code, out, _ = process(*words, stdin=log, cwd=directory.parents[1])
    assert (code, "order" in out) == ((1, False) if words[0] == "find" else (0, False))
    assert "order" in process(*words, "--dir", directory, stdin=log)[1]
    assert "order" in process(*words, cwd=directory.parents[1])[1]


def test_a_file_that_is_redirected_is_read(directory: Path) -> None:
    with segment(directory).open("rb") as file:
        command = [sys.executable, "-m", "proxy.cli", "audit", "verify"]
        root = {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, stdin=file, capture_output=True, check=False, cwd="/", env=root)
    assert (done.returncode, done.stdout.startswith(b"ok: 5 records")) == (0, True)


@pytest.mark.parametrize("log", [b"", b'{"level":"info","message":"ready"}\n' * 3])
def test_a_log_without_a_journal_is_no_empty_answer(log: bytes) -> None:
    """Who looks for refusals in it and finds none must not think that there were none."""
    for words in (("find", "--decision", "deny"), ("find", "--json"), ("show", "c1")):
        code, out, err = process(*words, stdin=log)
        assert code == 64
        assert ("none of the 3 lines of standard input is a record" if log else "standard input is empty") in err
        assert "audit_copy: true" in err
        assert not out or json.loads(out)["ok"] is False


def test_an_empty_directory_is_no_journal_either(tmp_path: Path) -> None:
    code, _, err = sidegate("find", "--dir", tmp_path)
    assert (code, f"{tmp_path} is empty, so nothing was searched" in err) == (64, True)
