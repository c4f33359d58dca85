"""Pages that follow from the charts: rendered examples, and the table of values in the chart's README.

Run: python -m tests.deploy.chart_pages     # writes helm/examples/*.yaml, and of helm/sidegate README.md, schema and rules anew
"""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from proxy.core.settings_schema import SCHEMA
from tests.deploy.cluster import REPO, tool

HELM = REPO / "helm"
CHART = HELM / "sidegate"
EXAMPLES = HELM / "examples"
NAMESPACE = "agents"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
# Settings that the chart makes of its other values.
OWN_SETTINGS: tuple[str, ...] = ("state", "catalog", "policy", "policy_folders", "bundle", "opa", "tokens", "reviewers")
OWN_SETTINGS += ("credentials", "store", "agent_port", "review_port", "probe_port")
VERSIONS = ("1.36.0", "1.37.0")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Helm, without a cluster."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False)


def template(chart: Path, *arguments: str, version: str = VERSIONS[-1]) -> str:
    """What a chart renders. Raises AssertionError with Helm's sentence."""
    found = helm("template", "agents", str(chart), "--namespace", NAMESPACE, "--kube-version", version, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def example_agent(folder: Path) -> Path:
    """A copy of the example agent's chart with its dependency in place."""
    for name in ("sidegate", "example-agent"):
        shutil.copytree(HELM / name, folder / name, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    done = helm("dependency", "update", str(folder / "example-agent"))
    assert done.returncode == 0, done.stderr
    return folder / "example-agent"


def rendered(folder: Path) -> dict[str, str]:
    """Every example by the name of its file."""
    found = {"example-agent.yaml": template(example_agent(folder))}
    for values in sorted(EXAMPLES.glob("*.values.yaml")):
        found[values.name.replace(".values", "")] = template(CHART, "--values", str(values))
    return found


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered file."""
    return [document for document in yaml.safe_load_all(text) if document]


def values_table() -> str:
    """The chart's values with their `# --` comments, as a Markdown table."""
    rows, said, path = ["| Value | Default | What |", "|---|---|---|"], "", list[tuple[int, str]]()
    for line in (CHART / "values.yaml").read_text().splitlines():
        if comment := re.fullmatch(r"\s*# -- (.+)", line):
            said = comment[1]
        elif entry := re.fullmatch(r"(\s*)([A-Za-z]+):\s*(.*?)(?:\s+#.*)?", line):
            indent = len(entry[1])
            path = [*(p for p in path if p[0] < indent), (indent, entry[2])]
            if said:
                default = f"`{entry[3]}`" if entry[3] else ""
                rows.append(f"| `{'.'.join(name for _, name in path)}` | {default} | {said} |")
            said = ""
    return "\n".join(rows)


def readme() -> str:
    """The chart's README with the table as it has to be."""
    page = (CHART / "README.md").read_text()
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{values_table()}\n{END}{rest.split(END)[1]}"


def values_schema() -> dict[str, Any]:
    """The schema of the chart's values, with the product's own for `settings`. What the chart sets is open here: a template
    refuses it with a sentence that a schema does not have."""
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    taken = dict.fromkeys(OWN_SETTINGS, True)
    schema["properties"]["settings"] = {**SCHEMA, "properties": {**SCHEMA["properties"], **taken}, "required": []}
    return schema


def rules() -> str:
    """The alert rules that the chart carries: those of deploy/monitoring."""
    return (REPO / "deploy" / "monitoring" / "rules.yaml").read_text()


def write() -> None:
    """Write all of it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in rendered(Path(folder)).items():
            (EXAMPLES / name).write_text(text)
    (CHART / "README.md").write_text(readme())
    (CHART / "values.schema.json").write_text(json.dumps(values_schema(), indent=2) + "\n")
    if (REPO / "deploy" / "monitoring" / "rules.yaml").exists():
        (CHART / "files").mkdir(exist_ok=True)
        (CHART / "files" / "rules.yaml").write_text(rules())


if __name__ == "__main__":
    write()
