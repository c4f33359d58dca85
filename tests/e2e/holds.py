"""Bringing a conversation to the point where a call is held."""

from tests.e2e.rig import Reply, Rig


async def held_price(rig: Rig, handle: str, sku: str = "SKU-1", **headers: str) -> Reply:
    """Read stock and terms, then ask for the price (with these headers); the pending answer."""
    for name in ("get_stock", "get_terms"):
        assert (await rig.send(handle, name)).status == 200
    held = await rig.send(handle, "get_price", {"sku": sku}, **headers)
    assert (held.status, held.code) == (409, "review_pending")
    return held


def review_of(held: Reply) -> str:
    """The id of the review on which a call waits."""
    return str(held.body["refusal"]["review"])


def prices(rig: Rig) -> int:
    """How many price requests the upstream received."""
    return sum(request.target.startswith("/prices/") for request in rig.upstream.received)


async def resume(rig: Rig, held: Reply, handle: str) -> tuple[int, str]:
    """Status, and the refusal's code if there is one, of a resume."""
    status, body = await rig.post(f"/v1/tool-calls/{held.call_id}/resume", b"", handle)
    return status, str(body.get("refusal", {}).get("code", ""))
