"""Where the files that come with the package are: in the checkout, or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def rego() -> Path:
    """The policy bundle's sources."""
    return _found(_PACKAGE / "_rego", _PACKAGE.parent / "rego")


def demo() -> Path:
    """The demo."""
    return _found(_PACKAGE / "_demo", _PACKAGE.parent / "deploy" / "demo")


def _found(installed: Path, checkout: Path) -> Path:
    return installed if installed.is_dir() else checkout
