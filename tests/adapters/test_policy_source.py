"""From policy settings to the revision that a real OPA serves; what is wrong changes nothing."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.adapters.bundle import BundleError, Sources
from proxy.adapters.clock import SystemClock
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_process import SupervisedOpa
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.adapters.policy_source import PATIENCE, PolicySource, policy_settings, read_policy
from proxy.adapters.yaml_file import YamlError
from proxy.core.tool import Catalog
from proxy.errors import Refusal
from tests.contracts.opa_server import opa_binary, short_directory
from tests.core.sample_catalog import document, load

REGO = Path(__file__).parents[2] / "rego"
SOURCES = Sources(shipped=REGO)
PRESET = Path(__file__).parents[2] / "proxy" / "presets" / "policy-guarded-writes.yaml"
TODAY = datetime(2026, 11, 25, tzinfo=UTC).date()


class ImpatientClock(SystemClock):
    """Every sleep takes no time and counts as a second, so that patience ends at once."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += 1.0


def policy(folder: Path, **changes: Any) -> Path:
    """policy.yaml of the preset for the sample catalog, changed."""
    given = yaml.safe_load(PRESET.read_text())
    given["grants"]["systems"] = {"charts": {"read": {"user": {}}}}
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(given | changes))
    return path


class Place:
    """A directory with policy.yaml, and an OPA that starts at the first bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bundle = root / "policy.tar.gz"
        self.opa = SupervisedOpa(
            binary=opa_binary(),
            bundle=self.bundle,
            directory=root / "opa",
            clock=SystemClock(),
            on_log=lambda _: None,
        )
        self.announced: list[str] = []
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        if self.starts == 1:
            await self.opa.start()

    @contextlib.asynccontextmanager
    async def source(self, **changes: Any) -> AsyncIterator[PolicySource]:
        async with SidecarOpaClient(self.opa.address, deadline=5.0) as client:
            given: dict[str, Any] = {
                "opa": opa_binary(),
                "sources": SOURCES,
                "settings": policy(self.root),
                "output": self.bundle,
                "policy": OpaPolicy(client),
                "clock": SystemClock(),
                "started": self.start,
                "credentials": frozenset({"suppliers-read"}),
            }
            try:
                yield PolicySource(**given | changes)
            finally:
                await self.opa.close()

    async def prepared(self, source: PolicySource, catalog: Catalog) -> str:
        return await source.prepare(catalog, self.announced.append)


@pytest.fixture
def place() -> Iterator[Place]:
    with short_directory() as root:
        yield Place(root)


async def test_what_is_prepared_is_announced_first_and_then_served(place: Place) -> None:
    """The revision that is answered is the one OPA has; a change of the policy or of the catalog is another."""
    async with place.source() as source:
        first = await place.prepared(source, load())
        assert await source.policy.revision() == first
        assert source.modes["grants"] == "enforce"
        policy(place.root, review={"approvers": ["others"], "effects": {}, "risks": {}})
        second = await place.prepared(source, load())
        assert await source.policy.revision() == second
        third = await place.prepared(source, load(document(("tools/0/timeout", "9s"))))
        assert await source.policy.revision() == third
    assert len({first, second, third}) == 3
    assert place.announced == [first, second, third]


async def test_what_is_wrong_leaves_the_policy_before_in_force(place: Place) -> None:
    """Nothing is announced, the file stays as it was."""
    async with place.source() as source:
        first = await place.prepared(source, load())
        before = place.bundle.read_bytes()
        wrong: tuple[dict[str, Any], ...] = (
            {"grants": {"tools": {"no_such_tool": {"user": {}}}, "systems": {}}},
            {"policies": {}},
            {"colour": "red"},
        )
        for changes in wrong:
            policy(place.root, **changes)
            with pytest.raises(BundleError):
                await place.prepared(source, load())
        assert place.bundle.read_bytes() == before
        assert place.announced == [first]
        assert await source.policy.revision() == first


async def test_an_opa_that_does_not_take_it_over_ends_the_wait(place: Place) -> None:
    """It reads another file: in bounded time that is an error that may be tried again."""
    async with place.source() as source:
        await place.prepared(source, load())
        aside = place.root / "aside.tar.gz"
        shutil.copy(place.bundle, aside)
        clock = ImpatientClock()
        source.output, source.clock = aside, clock
        policy(place.root, review={"approvers": ["others"], "effects": {}, "risks": {}})
        with pytest.raises(TimeoutError, match="the policy before it stays in force") as late:
            await place.prepared(source, load())
        assert not hasattr(late.value, "problems")
        assert clock.passed == PATIENCE


async def test_an_opa_that_cannot_be_reached_ends_the_wait_with_its_refusal(place: Place) -> None:
    """Nothing listens where it should."""

    async def nobody() -> None: ...

    async with place.source(started=nobody, clock=ImpatientClock()) as source:
        with pytest.raises(Refusal):
            await place.prepared(source, load())
    assert len(place.announced) == 1


def test_policy_is_compared_with_the_catalog_and_all_problems_are_named(tmp_path: Path) -> None:
    """Tools, systems, labels and arguments that the catalog does not have, and credentials that the settings do not."""
    path = policy(
        tmp_path,
        grants={"tools": {"tool_x": {"user": {}}}, "systems": {"system_x": {"read": {"user": {}}}}},
        arguments={"draw_chart": {"limits": {"argument_x": {"user": 1}}}},
        combination=[{"name": "n", "marks": ["label:label_x", "system:charts"], "then": "deny", "message": "m"}],
    )
    with pytest.raises(BundleError) as error:
        read_policy(path, SOURCES, load(), credentials=frozenset(), today=TODAY)
    said = "\n".join(error.value.problems)
    for word in ("tool_x", "system_x", "label_x", "argument_x", "suppliers-read"):
        assert word in said, said
    assert all(problem.startswith("policy.yaml: ") for problem in error.value.problems)


@pytest.mark.parametrize(("text", "error"), [("- a\n", BundleError), ("a: [", YamlError), (None, YamlError)])
def test_what_is_no_policy_file_is_said_in_its_own_way(
    tmp_path: Path, text: str | None, error: type[Exception]
) -> None:
    """A list, no YAML, nothing."""
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=r"policy\.yaml"):
        policy_settings(path, SOURCES)
