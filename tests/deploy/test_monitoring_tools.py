"""promtool and Sidegate's own command line take what deploy/monitoring says to them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.cluster import REPO, tool
from tests.deploy.monitored import FOLDER, RULES, alerts, shown

pytestmark = pytest.mark.slow


def checked(path: Path) -> tuple[int, str]:
    """Exit code and words of `promtool check rules`, its lint included."""
    command = [tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def test_prometheus_takes_the_rules() -> None:
    """Expressions, templates, durations; no rule comes twice."""
    code, said = checked(RULES)
    assert code == 0, said


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, which is how promtool checks expressions."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(shown())]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, width=10**6))
    code, said = checked(path)
    assert code == 0, said


@pytest.mark.parametrize("broken", ["sum(", "rate(sidegate_calls_total)", "sum by (tool"])
def test_an_expression_that_is_wrong_would_be_found(tmp_path: Path, broken: str) -> None:
    """The check above can fail."""
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "broken", "rules": [{"record": "a:b", "expr": broken}]}]}))
    assert checked(path)[0] != 0


def commands() -> list[tuple[str, ...]]:
    """Every `sidegate ...` that pages and README tell to type: command and action, with the options that they name."""
    text = "".join(path.read_text() for path in sorted(FOLDER.rglob("*.md")))
    found = re.findall(r"\bsidegate ((?:[a-z]+ ?){1,2})((?:[A-Z][A-Z_]* |--[a-z-]+ (?:[A-Z]+|[a-z_/]+) ?)*)", text)
    typed = {(*words.split(), *re.findall(r"--[a-z-]+", options)) for words, options in found}
    return sorted(line for line in typed if line[0] in {"audit", "policy", "review", "stop", "resume", "check"})


@pytest.mark.parametrize("typed", commands(), ids=" ".join)
def test_a_command_that_a_page_tells_to_type_is_there(typed: tuple[str, ...]) -> None:
    """With its options."""
    words = [word for word in typed if not word.startswith("--")]
    if words[0] in {"stop", "resume", "check"}:
        words = words[:1]
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", *words, "--help"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [option for option in typed if option.startswith("--") and option not in done.stdout] == []


def test_pages_tell_commands_at_all() -> None:
    """Else the test above proves nothing."""
    assert len(commands()) >= 8
    assert alerts()
