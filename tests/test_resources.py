"""What comes with the package is found."""

from pathlib import Path

import pytest

from proxy import resources


def test_policies_and_demo_are_found_in_the_checkout() -> None:
    """With what makes them what they are."""
    assert (resources.rego() / "sidegate" / "decision" / "decision.rego").is_file()
    assert (resources.rego() / "schemas" / "input.json").is_file()
    assert (resources.demo() / "services.py").is_file()


@pytest.mark.parametrize("installed", [True, False])
def test_what_is_installed_in_a_wheel_comes_first(tmp_path: Path, installed: bool) -> None:
    """Else the checkout's."""
    wheel, checkout = tmp_path / "_rego", tmp_path / "rego"
    if installed:
        wheel.mkdir()
    assert resources._found(wheel, checkout) == (wheel if installed else checkout)
