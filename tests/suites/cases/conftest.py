"""The sidecars of the end-to-end tests, for the cases."""

from tests.e2e.conftest import of_module, prepared, running, shared

__all__ = ["of_module", "prepared", "running", "shared"]
