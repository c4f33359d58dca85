"""The embedded store passes the contract of its ports, and survives a kill -9 with everything it acknowledged."""

import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from proxy.adapters.journal_reader import read, verify
from proxy.adapters.store_embedded import EmbeddedStore
from proxy.core.hold_rules import HoldLimits
from proxy.core.review import ReviewStatus
from proxy.errors import Code
from tests.adapters.crashing_store import STOCK
from tests.adapters.embedded_rig import Rig
from tests.contracts.store import StoreContract
from tests.contracts.store_kit import Place, refusing, spend
from tests.contracts.store_values import caller, checked

ROOT = Path(__file__).parents[2]


class TestContract(StoreContract):
    """On real files."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        rig = Rig(tmp_path)

        def opened(limits: HoldLimits) -> AbstractAsyncContextManager[EmbeddedStore]:
            return rig.opened(limits=limits)

        return Place(clock=rig.clock, factory=opened)


@pytest.mark.parametrize("lines", [3, 40, 170, 400])
async def test_a_kill_in_the_middle_of_200_calls_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, lines: int
) -> None:
    said = _killed_after(lines, tmp_path)
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        begun = len(store.log.state.executing)
        assert await store.recover() == begun
        assert store.log.state.executing == {}
        for name in said["registered"]:
            assert await store.conversations.conversation(conversation_id=name) is not None
        for name in said["approved"]:
            (review,) = await store.reviews.find(review_id=name)
            assert review.status in (ReviewStatus.APPROVED, ReviewStatus.SPENT)
        for record in [each for each in read(rig.directory) if each["kind"] == "intent" and each["review"]]:
            (review,) = await store.reviews.find(review_id=record["review"])
            assert review.status is ReviewStatus.SPENT
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, caller(record["conversation"]), checked(STOCK, record["digest"]), review)
    _check_journal(rig.directory, said)


def _check_journal(directory: Path, said: dict[str, list[str]]) -> None:
    assert verify([directory]).ok
    records = list(read(directory))
    intents = [record for record in records if record["kind"] == "intent"]
    committed = {record["call"] for record in intents}
    ends = Counter(record["call"] for record in records if record["kind"] == "terminal" and record["call"] in committed)
    recovered = {record["call"] for record in records if record.get("recovered")}
    assert set(said["intent"]) <= committed
    assert ends == Counter(committed)
    assert not recovered & set(said["terminal"])
    assert max(Counter(record["review"] for record in intents if record["review"]).values(), default=0) <= 1


def _killed_after(lines: int, path: Path) -> dict[str, list[str]]:
    """What the process had acknowledged when it was killed."""
    command = [sys.executable, "-m", "tests.adapters.crashing_store", str(path)]
    said: dict[str, list[str]] = defaultdict(list)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout, 1):
            word, name = line.split()
            said[word].append(name)
            if count == lines:
                process.kill()
    assert process.returncode == -9
    assert sum(len(names) for names in said.values()) >= lines
    return said
