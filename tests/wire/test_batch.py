"""What a dialect reads from a body."""

import pytest

from proxy.model import Dialect
from proxy.wire.batch import Batch


def test_a_batch_is_a_value() -> None:
    """It cannot be changed once read."""
    batch = Batch(dialect=Dialect.NATIVE, items=(), many=True)
    with pytest.raises(AttributeError):
        batch.many = False  # type: ignore[misc]  # what the test shows
