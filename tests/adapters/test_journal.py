"""The journal on real files: what is written, what is refused, what a kill leaves."""

import asyncio
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.journal import JournalError
from proxy.adapters.journal_reader import read, verify
from tests.adapters.journal_disk import STOP, files, opened, refusal, start


async def test_records_are_numbered_dated_and_chained(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        assert journal.append(STOP) == 2
        assert journal.append({"kind": "intent", "arguments": orjson.Fragment(b'{"a":1.10}')}) == 3
        await journal.flushed(3)
        head = journal.head
    segment, stop, intent = read(tmp_path / "j")
    assert segment["chain"] == "pod-a"
    assert segment["reason"] == "start"
    assert stop == {"seq": 2, "at": "2027-01-15T08:00:00.000000Z", **STOP, "hash": stop["hash"]}
    assert (intent["seq"], intent["hash"]) == (head.seq, head.hash)
    assert head.offset == files(tmp_path / "j")[0].stat().st_size
    assert b'"arguments":{"a":1.10}' in files(tmp_path / "j")[0].read_bytes()
    assert verify([tmp_path / "j"]).ok


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    async with opened(tmp_path / "j"):
        assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "j").iterdir()} == {0o600}


async def test_a_second_process_is_kept_out_and_told_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "j"):
        with pytest.raises(JournalError, match="in use by another process"):
            start(tmp_path / "j")
    async with opened(tmp_path / "j"):
        pass


async def test_a_new_start_goes_on_with_the_chain_in_a_new_segment(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        journal.append(STOP)
    async with opened(tmp_path / "j") as journal:
        assert journal.append(STOP) == 4
    assert [record["seq"] for record in read(tmp_path / "j")] == [1, 2, 3, 4]
    assert [path.name for path in files(tmp_path / "j")] == ["pod-a-000000000001.jsonl", "pod-a-000000000003.jsonl"]
    assert verify([tmp_path / "j"]).segments == 2


async def test_another_chain_does_not_go_on_here(tmp_path: Path) -> None:
    async with opened(tmp_path / "j"):
        pass
    with pytest.raises(JournalError, match="'pod-a', not 'pod-b'"):
        start(tmp_path / "j", chain="pod-b")
    with pytest.raises(JournalError, match="not a name"):
        start(tmp_path / "j", chain="../pod")


async def test_a_journal_shorter_than_the_saved_state_does_not_open(tmp_path: Path) -> None:
    async with opened(tmp_path / "j"):
        pass
    with pytest.raises(JournalError, match="ends at record 1, but state was saved at record 2"):
        start(tmp_path / "j", expect=2)
    async with opened(tmp_path / "j", expect=1):
        pass


@pytest.mark.parametrize(
    "record", [{}, {"kind": "stop", "hash": "x"}, {"kind": "stop", "x": object()}, {"kind": "s", "x": "\ud800"}]
)
async def test_what_cannot_be_written_is_refused_and_counted(tmp_path: Path, record: Mapping[str, Any]) -> None:
    async with opened(tmp_path / "j") as journal:
        refusal(lambda: journal.append(record))
        refusal(lambda: journal.append({"kind": "stop", "x": orjson.Fragment(b'{\n"a":1}')}))
        journal.append(STOP)
    lost = [count for record in read(tmp_path / "j") if record["kind"] == "gap" for count in record["lost"].values()]
    assert sum(lost) == 2
    assert verify([tmp_path / "j"]).ok


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
async def main():
    journal = Journal.open(Path(sys.argv[1]), chain="pod-a", clock=SystemClock(), segment_bytes=20000)
    async def call(number):
        while True:
            journal.enter()
            seq = journal.append({"kind": "intent", "call": str(number), "pad": "x" * number * 10})
            await journal.flushed(seq)
            journal.leave()
            sys.stdout.write(f"{seq}\\n"); sys.stdout.flush()
    await asyncio.gather(*(call(number) for number in range(16)))
asyncio.run(main())
"""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "j"], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(300)]
            child.kill()
            told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        assert set(told) <= {record["seq"] for record in read(tmp_path / "j")}
    journal = start(tmp_path / "j")
    asyncio.run(journal.close())
    verdict = verify([tmp_path / "j"])
    assert verdict.ok, verdict
    assert verdict.segments > 4


async def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    journal = start(tmp_path / "j")
    await journal.close()
    await journal.close()
    refusal(lambda: journal.append(STOP))
