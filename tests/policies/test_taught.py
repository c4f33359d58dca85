"""Rego outside of rego/sidegate: the policy that rego/README.md teaches, and the chart, which has none."""

import re
from pathlib import Path

from tests.cli.command import inside

REPO = Path(__file__).parents[2]
README = (REPO / "rego" / "README.md").read_text()
A_FILE = re.compile(r"`(policies/weekend/[\w./]+)`[^\n]*:\n\n```\w+\n(.*?)```", re.DOTALL)


def test_the_policy_that_the_readme_teaches_passes_what_a_build_asks(tmp_path: Path) -> None:
    """Every file as it is printed there, on what `sidegate init` makes and the main README's tool: check, lint, samples, sweep."""
    assert inside("init", tmp_path).code == 0
    files = dict(A_FILE.findall(README))
    assert len(files) == README.count("`policies/weekend/") == 5
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    change(tmp_path / "sidegate.yaml", "# policy_folders: [policies]", "policy_folders: [policies]")
    change(tmp_path / "catalog" / "tools.yaml", "name: say_hello", "name: get_price")
    change(tmp_path / "policy.yaml", "  tools: {}", "  tools: {get_price: {user: {}}}")
    for line in ("policies", "custom"):
        (taught,) = re.findall(rf"^{line}: .*weekend.*$", README, re.MULTILINE)
        change(tmp_path / "policy.yaml", rf"^{line}: .*$", taught)
    done = inside("policy", "test", "--settings", tmp_path / "sidegate.yaml")
    assert done.code == 0, done.all
    assert "cover 100 % of the policy lines" in done.out


def test_the_chart_holds_no_rego() -> None:
    """Policy comes as a bundle, built and proven by the OPA that is pinned: no text in YAML waits for another OPA's parser."""
    files = [path for path in (REPO / "helm").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if path.suffix == ".rego" or "import rego" in path.read_text(errors="replace")] == []


def change(path: Path, old: str, new: str) -> None:
    """Once, in a file; `old` is a pattern."""
    text, times = re.subn(old if old.startswith("^") else re.escape(old), new, path.read_text(), flags=re.MULTILINE)
    assert times == 1, (path, old)
    path.write_text(text)
