"""What the sidecar says of itself, in its log and its journal."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
from proxy.core.catalog import build_catalog
from proxy.core.tool import Snapshot
from proxy.reports import log_of_opa, reporter, taken_over


def records(directory: Path, kind: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for path in directory.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return [record for record in lines if record["kind"] == kind]


def opened(directory: Path) -> Journal:
    return Journal.open(directory, chain="t", clock=SystemClock())


async def test_a_failed_reload_is_told_sentence_by_sentence_and_recorded_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is said of one that is in order again: what came into force says so itself."""
    journal = opened(tmp_path)
    told = reporter(journal)
    told(["first", "second"])
    told([])
    await journal.close()
    assert [r.getMessage().rpartition(": ")[2] for r in caplog.records] == ["first", "second"]
    (record,) = records(tmp_path, "reload")
    assert (record["failed"], record["problems"]) == (True, ["first", "second"])


async def test_what_came_into_force_is_logged_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its revision and which policies are enforced."""
    caplog.set_level(logging.INFO)
    catalog = build_catalog([("t", {"systems": {"a": {}}})], today=SystemClock().now().date())
    journal = opened(tmp_path)
    policy = SimpleNamespace(
        modes={"grants": "enforce"}, layers={"platform": "r1", "team": "r2"}, rolled_back={"by": "ada", "at": "now"}
    )
    taken_over(Snapshot(catalog=catalog, policy_revision="r" * 64), policy, journal)
    await journal.close()
    assert "in force" in caplog.text
    (record,) = records(tmp_path, "reload")
    assert record["policies"] == {"grants": "enforce"}
    assert record["layers"] == {"platform": "r1", "team": "r2"}
    assert record["rolled_back"] == {"by": "ada", "at": "now"}


async def test_a_journal_that_cannot_be_written_does_not_keep_the_old_catalog_in_force(tmp_path: Path) -> None:
    """The journal counts what it lost; calls are refused by themselves."""
    journal = opened(tmp_path)
    await journal.close()
    reporter(journal)(["problem"])


def test_a_line_of_opa_keeps_its_level(caplog: pytest.LogCaptureFixture) -> None:
    """Its message and its few fields."""
    log_of_opa({"level": "error", "msg": "broken bundle", "err": "e"})
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), record.fields) == ("ERROR", "opa: broken bundle", {"err": "e"})  # type: ignore[attr-defined]  # `extra` makes it
