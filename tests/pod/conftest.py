"""Pods for tests."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.pod.rig import PodRig, Wanted, pod_rig

HERE = Path(__file__).parent
Pods = Callable[..., Awaitable[PodRig]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the image (minutes, the first time) and root: namespaces and mounts are made."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1200))
            item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces and mounts needs root"))


@pytest_asyncio.fixture
async def pods(tmp_path: Path) -> AsyncIterator[Pods]:
    """Makes a pod as wanted, not yet started. Any number of them; all are gone when the test ends."""
    async with contextlib.AsyncExitStack() as stack:
        number = 0

        async def made(wanted: Wanted | None = None) -> PodRig:
            nonlocal number
            number += 1
            folder = tmp_path / f"pod{number}"
            folder.mkdir()
            for place in (tmp_path, *tmp_path.parents[:2]):
                place.chmod(0o755)  # containers run as other users
            return await stack.enter_async_context(pod_rig(folder, wanted))

        yield made


@pytest_asyncio.fixture
async def pod(pods: Pods) -> PodRig:
    """The example agent's pod, running: install, OPA, proxy and agent in containers of their own."""
    made = await pods()
    await made.start()
    await made.until_true(lambda: bool(made.agent_said()), "the agent is at work")
    return made
