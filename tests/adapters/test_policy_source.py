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
from proxy.adapters.bundle_check import Checks
from proxy.adapters.clock import SystemClock
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_process import SupervisedOpa
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.adapters.policy_history import Pin, PolicyHistory
from proxy.adapters.policy_origin import FolderOrigin
from proxy.adapters.policy_source import PATIENCE, PolicyBuilder, PolicySource, put
from proxy.adapters.state_directory import UnusableError
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


def builder(root: Path, settings: Path, **changes: Any) -> PolicyBuilder:
    """Of policy.yaml and the shipped policies."""
    given: dict[str, Any] = {
        "checks": Checks(opa=opa_binary(), shipped=REGO),
        "origin": FolderOrigin(settings=settings, sources=SOURCES),
        "history": PolicyHistory(root / "history"),
        "credentials": frozenset({"suppliers-read"}),
    }
    return PolicyBuilder(**given | changes)


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
                "builder": builder(self.root, policy(self.root)),
                "output": self.bundle,
                "policy": OpaPolicy(client),
                "clock": SystemClock(),
                "started": self.start,
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
        with pytest.raises(TimeoutError, match="until it does, the policy before it decides") as late:
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


async def test_policy_is_compared_with_the_catalog_and_all_problems_are_named(tmp_path: Path) -> None:
    """Tools, systems, labels and arguments that the catalog does not have, and credentials that the settings do not."""
    path = policy(
        tmp_path,
        grants={"tools": {"tool_x": {"user": {}}}, "systems": {"system_x": {"read": {"user": {}}}}},
        arguments={"draw_chart": {"limits": {"argument_x": {"user": 1}}}},
        combination=[{"name": "n", "marks": ["label:label_x", "system:charts"], "then": "deny", "message": "m"}],
    )
    with pytest.raises(BundleError) as error:
        await builder(tmp_path, path, credentials=frozenset()).of_source(load(), today=TODAY)
    said = "\n".join(error.value.problems)
    for word in ("tool_x", "system_x", "label_x", "argument_x", "suppliers-read"):
        assert word in said, said
    assert all(problem.startswith("policy.yaml: ") for problem in error.value.problems)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"place_order": {"own_domain": ["auth.pin"]}}},
        {"arguments": {"place_order": {"limits": {"auth.pin": {"user": 1}}}}},
        {"grants": {"tools": {"place_order": {"user": {"arguments": {"auth.pin": {"max": 1}}}}}, "systems": {}}},
        {
            "grants": {
                "tools": {},
                "systems": {"external": {"admin": {"user": {"arguments": {"auth.pin": {"max": 1}}}}}},
            }
        },
    ],
    ids=["own_domain", "limits", "grant", "system"],
)
async def test_a_bound_on_a_part_of_an_argument_is_a_problem(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Rego looks at whole arguments: `own_domain` would never fire there, and the others would always."""
    with pytest.raises(BundleError, match=r"policy\.yaml: the policy .* argument 'auth\.pin' .* top level"):
        await builder(tmp_path, policy(tmp_path, **changes)).of_source(load(), today=TODAY)


async def test_a_waiver_that_is_over_is_a_problem(tmp_path: Path) -> None:
    """The day after its last."""
    waived = {"mode": "warn", "because": "trial", "until": "2026-11-24"}
    given = yaml.safe_load(PRESET.read_text())["policies"]
    path = policy(tmp_path, policies={**given, "ownership": waived})
    with pytest.raises(BundleError, match="policies/ownership: its waiver ended on 2026-11-24"):
        await builder(tmp_path, path).of_source(load(), today=TODAY)


async def test_a_rollback_holds_until_the_source_has_another_policy(place: Place) -> None:
    """For the catalog of now, over a restart, with a word of who went back; then the source counts again."""
    async with place.source() as source:
        history = source.builder.history
        first = await place.prepared(source, load())
        policy(place.root, review={"approvers": ["others"], "effects": {}, "risks": {}})
        second = await place.prepared(source, load())
        assert [entry.revision for entry in history.entries()] == [second, first]
        newest, before = history.entries()
        history.set_pin(Pin(content=before.content, source=newest.source, by="ada", at="2026-11-25T00:00:00+00:00"))
        assert await place.prepared(source, load()) == first == await source.policy.revision()
        assert source.rolled_back == {"by": "ada", "at": "2026-11-25T00:00:00+00:00"}
        again = PolicySource(
            builder=source.builder, output=place.bundle, policy=source.policy, clock=SystemClock(), started=place.start
        )
        assert await place.prepared(again, load()) == first
        assert await place.prepared(source, load(document(("tools/0/timeout", "9s")))) not in (first, second)
        assert [entry.revision for entry in history.entries()] == [second, first]
        policy(place.root, review={"approvers": ["third"], "effects": {}, "risks": {}})
        third = await place.prepared(source, load())
        assert source.rollback is history.pin() is None
        assert [entry.revision for entry in history.entries()] == [third, second, first]


async def test_a_bundle_that_cannot_be_written_is_one_sentence(place: Place) -> None:
    """The place where OPA reads is a directory, or full."""
    made = await builder(place.root, policy(place.root)).of_source(load(), today=TODAY)
    (place.root / "taken" / "x").mkdir(parents=True)
    with pytest.raises(UnusableError, match="cannot be written"):
        await put(made, place.root / "taken")


class StrangerOnce:
    """An OPA that has loaded a policy beside ours by the second look; everything else is the real one's."""

    def __init__(self, real: OpaPolicy) -> None:
        self.real = real
        self.looks = 0

    async def warm(self) -> str:
        return await self.real.warm()

    async def mismatch(self) -> frozenset[str]:
        self.looks += 1
        return await self.real.mismatch() | (frozenset({"extra"}) if self.looks == 2 else frozenset())


async def test_a_policy_that_is_refused_while_opa_serves_it_gives_way_to_the_one_before(place: Place) -> None:
    """The file that OPA reads is the one before again, byte for byte."""
    async with place.source() as source:
        stranger = StrangerOnce(source.policy)
        source.policy = stranger  # type: ignore[assignment]  # the two questions that a preparation asks
        first = await place.prepared(source, load())
        before = place.bundle.read_bytes()
        policy(place.root, review={"approvers": ["others"], "effects": {}, "risks": {}})
        with pytest.raises(BundleError, match=r"loaded but not listed.*: extra$"):
            await place.prepared(source, load())
        assert place.bundle.read_bytes() == before
        deadline = source.clock.monotonic() + 10
        while await stranger.real.revision() != first:
            assert source.clock.monotonic() < deadline
            await source.clock.sleep(0.02)
