"""Workloads as principals: a token that the cluster made for a service account, at a running sidecar set up as the chart says."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.deploy.chart_pages import CHART, documents, template
from tests.deploy.cluster import ISSUER, Cluster
from tests.deploy.pods import values
from tests.e2e.rig import Rig, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
ACCOUNTS = "/api/v1/namespaces/workloads/serviceaccounts"
SUBJECT = "system:serviceaccount:workloads:buyer"
Json = dict[str, Any]


def token(api_server: Cluster, audience: str) -> str:
    """As the kubelet projects it into a pod (TokenRequest)."""
    asked = {"spec": {"audiences": [audience], "expirationSeconds": 600}}
    found: str = api_server.create(f"{ACCOUNTS}/buyer/token", asked)["status"]["token"]
    return found


def issuer(api_server: Cluster, folder: Path) -> Json:
    """The entry under `tokens` that the chart renders for this cluster's keys, which are put where a test can have them."""
    keys = orjson.dumps(api_server.ask("GET", "/openid/v1/jwks")).decode()
    file = folder / "values.json"
    file.write_bytes(orjson.dumps(values(identity={"audience": "sidegate", "issuer": ISSUER, "jwks": keys})))
    rendered = documents(template(CHART, "--values", str(file)))
    data = next(d["data"] for d in rendered if "sidegate.yaml" in d.get("data", {}))
    (folder / "workloads.json").write_text(data["workloads.json"])
    entry: Json = yaml.safe_load(data["sidegate.yaml"])["tokens"]["issuers"][0]
    assert entry["jwks_file"] == "/etc/sidegate/settings/workloads.json"
    return entry | {"jwks_file": str(folder / "workloads.json")}


async def test_a_workload_calls_with_its_service_accounts_token(api_server: Cluster, tmp_path: Path) -> None:
    """Its subject is its role; a token for another audience, or one that was tampered with, is nobody's."""
    api_server.namespace("workloads")
    api_server.create(ACCOUNTS, {"metadata": {"name": "buyer"}})
    async with rig(tmp_path) as sidecar:
        sidecar.settings["tokens"]["issuers"] = [issuer(api_server, tmp_path)]
        sidecar.policy["grants"]["systems"]["inventory"]["read"][SUBJECT] = {}
        await sidecar.start()
        good = token(api_server, "sidegate")
        status, answer = await sidecar.put("w", good)
        assert status == 200, answer
        reply = await sidecar.send(answer["handle"], "get_stock")
        assert reply.status == 200
        principal = (await sidecar.ended(reply.call_id))["principal"]
        assert principal["id"] == f"{ISSUER}#{SUBJECT}"
        await refused(sidecar, token(api_server, "elsewhere"))
        head, payload, signature = good.split(".")
        await refused(sidecar, ".".join((head, payload, signature[::-1])))


async def refused(sidecar: Rig, presented: str) -> None:
    status, answer = await sidecar.put("other", presented)
    assert (status, answer["refusal"]["code"]) == (401, "unauthenticated")
