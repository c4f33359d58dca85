"""Sidecars for tests: one of its own, or one that a whole module shares."""

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.jaeger import Jaeger
from tests.e2e.rig import Rig, rig

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a module that are coroutines share one event loop, as they share one sidecar."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A real Jaeger, one for all tests."""
    with Jaeger(folder=tmp_path_factory.mktemp("jaeger")).running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def prepared(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig whose sidecar the test starts."""
    async with rig(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def running(prepared: Rig) -> Rig:
    """A rig with its sidecar running."""
    await prepared.start()
    return prepared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One running sidecar for a module, after the module's own `prepare(rig)`. Sound when all tests are through."""
    async with rig(tmp_path_factory.mktemp("shared")) as made:
        if hasattr(request.module, "prepare"):
            request.module.prepare(made)
        await made.start()
        yield made
        await made.sound()


@pytest_asyncio.fixture(loop_scope="module")
async def shared(of_module: Rig) -> AsyncIterator[Rig]:
    """The module's sidecar with an upstream that behaves."""
    of_module.upstream.answer = None
    of_module.upstream.received.clear()
    yield of_module
    of_module.upstream.answer = None
