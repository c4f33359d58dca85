"""Marks for the tests of the adapters."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVERS = {"tests.adapters.valkey_rig", "tests.e2e.redis_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What speaks to a real Redis or Valkey is left to the full run: `quick` needs OPA and nothing else."""
    for item in items:
        if HERE in item.path.parents and isinstance(item, pytest.Function) and _needs_a_server(item):
            item.add_marker(pytest.mark.slow)


def _needs_a_server(item: pytest.Function) -> bool:
    return any(getattr(each, "__module__", None) in SERVERS for each in vars(item.module).values())
