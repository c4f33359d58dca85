"""A pod's clock ten minutes off its issuer's: tokens are refused with the reason, nothing is allowed, nothing breaks."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.contracts.tokens import RSA_KEY, key_set, public
from tests.pod.conftest import Pods
from tests.pod.rig import PodRig, Wanted

SKEW = 600  # seconds
ISSUER = "https://id.example"
SOURCE = Path(__file__).parents[1] / "faults" / "clock.c"


def token(*, starts: float, ends: float) -> str:
    """A user's token whose times are seconds from the issuer's now, which is this machine's."""
    now = time.time()
    claims: dict[str, Any] = {"iss": ISSUER, "aud": "sidegate", "sub": "ada", "roles": ["buyer"], "tenant": "acme"}
    claims |= {"iat": int(now + starts), "nbf": int(now + starts), "exp": int(now + ends)}
    return jwt.encode(claims, RSA_KEY, "RS256", {"kid": "rsa"})


async def skewed(pods: Pods, seconds: int) -> PodRig:
    """A pod that lives so many seconds ahead of its issuer: the proxy's clock runs through tests/faults/clock.c."""
    issuer: dict[str, Any] = {"issuer": ISSUER, "audience": "sidegate", "jwks_file": "/etc/sidegate/tokens/jwks.json"}
    issuer["claims"] = {"roles": "roles", "tenant": "tenant"}
    pod = await pods(Wanted(settings={"tokens": {"issuers": [issuer]}}, agent=("serve",)))
    files = pod.kubelet.volumes.secrets[pod._names["tokens"]]
    files["jwks.json"] = key_set(public(RSA_KEY, "rsa"))
    files["clock.so"] = library(pod.folder)
    files["offset"] = seconds.to_bytes(8, "little", signed=True)
    for entry in pod.pod["spec"]["initContainers"]:
        if entry["name"] == "sidegate":
            entry["env"] = [
                *entry["env"],
                {"name": "LD_PRELOAD", "value": "/etc/sidegate/tokens/clock.so"},
                {"name": "FAULTS_CLOCK", "value": "/etc/sidegate/tokens/offset"},
            ]
    await pod.start()
    return pod


def library(folder: Path) -> bytes:
    """The preloaded clock, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine for the preloaded clock")
    made = folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made.read_bytes()


async def test_a_pod_whose_clock_is_behind(pods: Pods) -> None:
    """A fresh token is not valid yet for it: 401 and the word; one that has been valid for longer serves."""
    pod = await skewed(pods, -SKEW)
    status, answer = await pod.put("c1", token(starts=0, ends=3600))
    assert (status, answer["refusal"]["code"]) == (401, "unauthenticated")
    assert "not valid yet" in json.dumps(answer) or "clock" in json.dumps(answer), answer
    assert pod.upstream.received == []
    await served(pod, token(starts=-SKEW - 60, ends=3600))


async def test_a_pod_whose_clock_is_ahead(pods: Pods) -> None:
    """A token that ends within the ten minutes has ended for it: 401; one with an hour to go serves."""
    pod = await skewed(pods, SKEW)
    status, answer = await pod.put("c1", token(starts=-10, ends=300))
    assert (status, answer["refusal"]["code"]) == (401, "unauthenticated")
    assert "expired" in json.dumps(answer) or "ended" in json.dumps(answer), answer
    assert pod.upstream.received == []
    await served(pod, token(starts=-10, ends=3600))


async def served(pod: PodRig, user: str) -> None:
    """A call under this token is decided and recorded; OPA, whose clock is right, makes no difference."""
    status, answer = await pod.put("c2", user)
    assert status == 200, answer
    called = await pod.send(answer["handle"], "get_stock")
    assert called.status == 200
    assert (await pod.ended(called.call_id))["outcome"] == "done"
    assert pod.verify() == 0
    await pod.until(pod.ready, "the pod is ready")
