"""`sidegate policy history` and `rollback`, on the state directory alone; with a running sidecar: tests/e2e/test_delivery.py."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.adapters.bundle import Sources, assemble
from proxy.adapters.policy_history import PolicyHistory
from tests.adapters.team import REGO, SAMPLE
from tests.cli.command import Done, inside
from tests.contracts.opa_server import opa_binary


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """What `sidegate init` makes, after three policies were in force."""
    assert inside("init", tmp_path).code == 0
    for number in range(3):
        document = {**SAMPLE, "custom": {"number": {"is": number}}}
        made = await assemble(opa_binary(), Sources(shipped=REGO), document, catalog_revision="c1")
        at = f"2026-11-25T00:00:0{number}+00:00"
        PolicyHistory(tmp_path / "state" / "policy").installed(made, source="now", key=None, at=at, pin=None)
    return tmp_path


@pytest.fixture
def taking(directory: Path) -> Iterator[PolicyHistory]:
    """Somebody who does what the sidecar does with a rollback."""
    history, done = PolicyHistory(directory / "state" / "policy"), threading.Event()

    def take() -> None:
        while not done.wait(0.02):
            pin = history.pin()
            wanted = history.entries()[0].content if pin is None else pin.content
            if history.in_force() != wanted:
                text = (directory / "state" / "policy" / "history.json").read_text()
                (directory / "state" / "policy" / "new").write_text(text.replace(history.in_force(), wanted, 1))
                (directory / "state" / "policy" / "new").replace(directory / "state" / "policy" / "history.json")

    thread = threading.Thread(target=take)
    thread.start()
    yield history
    done.set()
    thread.join()


def policy(action: str, directory: Path, *words: str) -> Done:
    return inside("policy", action, "--settings", directory / "sidegate.yaml", *words)


def in_force(directory: Path) -> list[bool]:
    return [one["in_force"] for one in json.loads(policy("history", directory, "--json").out)["policies"]]


def test_the_list_is_newest_first_and_marks_what_is_in_force(directory: Path) -> None:
    lines = policy("history", directory).out.splitlines()
    assert len(lines) == 4
    assert lines[1].endswith("in force")
    assert "2026-11-25T00:00:02" in lines[1]
    assert in_force(directory) == [True, False, False]


def test_going_back_twice_goes_back_two_and_the_end_is_the_newest(directory: Path, taking: PolicyHistory) -> None:
    assert policy("rollback", directory).code == 0
    assert in_force(directory) == [False, True, False]
    assert "in force, by rollback" in policy("history", directory).out
    pin = taking.pin()
    assert pin is not None
    assert pin.by
    assert policy("rollback", directory, "--json").code == 0
    assert in_force(directory) == [False, False, True]
    done = policy("rollback", directory)
    assert (done.code, "no policy before" in done.err) == (1, True)
    newest = taking.entries()[0].revision
    assert policy("rollback", directory, "--end").out == f"in force: the source's policy, {newest[:12]}\n"
    assert in_force(directory) == [True, False, False]


def test_a_revision_may_be_named_by_its_beginning(directory: Path, taking: PolicyHistory) -> None:
    last = taking.entries()[2].revision
    assert policy("rollback", directory, last[:10]).code == 0
    assert in_force(directory) == [False, False, True]
    for words, wanted in (((last,), "is in force already"), (("zz",), "no kept policy"), (("",), "several")):
        done = policy("rollback", directory, *words)
        assert (done.code, wanted in done.err) == (1, True)


def test_where_nothing_was_in_force_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    assert inside("init", tmp_path).code == 0
    for action, *words in (("history",), ("rollback",), ("rollback", "--end")):
        assert policy(action, tmp_path, *words).code == 1
    assert not (tmp_path / "state").exists()
