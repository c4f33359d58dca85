"""From a value of the chart to the path that a collector sees: the rendered variables, and the exporter of the product."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart_pages import CHART, documents, template
from tests.deploy.pods import values
from tests.telemetry.exporting import PATHS, SOON, exporting
from tests.telemetry.receiver import receiving
from tests.telemetry.samples import ROOT

pytestmark = pytest.mark.slow


def variables(folder: Path, **changes: Any) -> dict[str, str]:
    """What the sidecar's container is started with under these values, Secrets apart."""
    file = folder / "values.json"
    file.write_text(json.dumps(values(**changes)))
    rendered = documents(template(CHART, "--values", str(file)))
    (pod,) = [document["template"]["spec"] for document in rendered if document["kind"] == "PodTemplate"]
    (sidecar,) = [container for container in pod["initContainers"] if container["name"] == "sidegate"]
    given = {entry["name"]: entry["value"] for entry in sidecar["env"] if "value" in entry}
    return {name: value for name, value in given.items() if name.startswith("OTEL_EXPORTER")}


@pytest.mark.parametrize(("variable", "suffix", "path"), PATHS)
@pytest.mark.parametrize("value", ["telemetry", "extraEnv"])
async def test_a_value_of_the_chart_leads_to_the_path_of_the_standard_variable(
    tmp_path: Path, value: str, variable: str, suffix: str, path: str
) -> None:
    """As the variable itself does; nothing is appended or cut on the way."""
    async with receiving() as receiver:
        url = receiver.url + suffix
        given = {variable: url} if value == "telemetry" else [{"name": variable, "value": url}]
        async with exporting(variables(tmp_path, **{value: given}) | SOON) as exporter:
            exporter.offer(ROOT)
            await receiver.until(lambda r: bool(r.spans))
    assert receiver.received[0].path == path
