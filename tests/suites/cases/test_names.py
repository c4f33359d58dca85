"""C050: names that no tool has, through the running sidecar."""

import json

import pytest

from tests.e2e.rig import Rig, tool
from tests.suites.cases.kit import in_dialect, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


def prepare(rig: Rig) -> None:
    """The tool that the names are close to."""
    request = {"method": "POST", "path": "/mail", "body": {"sku": "sku"}}
    rig.catalog["tools"].append(tool("send_email", "inventory", "read", request))


NEAR = ["send_emial", "send_email ", " send_email", "SEND_EMAIL", "send_\u0435mail", "", "x" * 10_000, "../send_email"]
NEAR += [
    "send_email\u200b",
    "send_email\n",
    "send-email",
    "send_emai",
    "send_emails",
    "api.send_email",
    "send_email\u202e",
]
NEAR += ["send_email?x", "*", "send_*", "__class__", "<script>"]


@pytest.mark.parametrize("dialect", ["native", "openai_chat", "openai_responses", "anthropic"])
@pytest.mark.parametrize("name", NEAR, ids=lambda name: ascii(name)[:24])
async def test_c050_no_name_but_the_exact_one(shared: Rig, dialect: str, name: str) -> None:
    """Nothing is folded, trimmed, matched or suggested; the record has the name as it came, capped, and the dialect."""
    handle = await shared.register("c050")
    source = '"{\\"sku\\":\\"S\\"}"' if dialect.startswith("openai") else '{"sku":"S"}'
    refusal = await refused(shared, handle, in_dialect(dialect, name, source), "unknown_tool", "invalid_call")
    assert "send_email" in name or "send_email" not in refusal["message"]
    assert len(refusal["message"]) < 400
    assert len(json.dumps(refusal)) < 3000
    assert refusal["message"].isprintable()
    record = await shared.ended(refusal["call_id"])
    assert (record["asked_tool"], record["tool"], record["dialect"]) == (name[:256], None, dialect)


@pytest.mark.parametrize("source", ["null", "5", '["send_email"]', '{"a":1}', "true"])
async def test_c050_a_name_that_is_no_text(shared: Rig, source: str) -> None:
    """No name, no call."""
    handle = await shared.register("c050n")
    await refused(shared, handle, f'{{"id":"c1","tool":{source},"arguments":{{}}}}', "invalid_call")
