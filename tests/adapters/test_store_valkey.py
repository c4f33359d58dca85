"""The shared store passes the contract of its ports on a real server."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from proxy.adapters.store_valkey import SharedStore
from proxy.core.hold_rules import HoldLimits
from tests.adapters.valkey_rig import Pods
from tests.contracts.store import StoreContract
from tests.contracts.store_kit import Place
from tests.e2e.redis_server import redis_server


class TestContract(StoreContract):
    """On real servers, flushed at each write."""

    @pytest.fixture(params=["redis-server", "valkey-server"])
    async def place(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
        async with redis_server(tmp_path / "redis", program=request.param) as server:
            pods = Pods(tmp_path / "pods", server)

            def opened(limits: HoldLimits) -> AbstractAsyncContextManager[SharedStore]:
                return pods.pod(limits=limits)

            yield Place(clock=pods.clock, factory=opened)
