"""Cases of section 14: whose call it is and which credential goes along (C092-C095), through the running sidecar."""

import json

import pytest

from tests.e2e.rig import CREDENTIAL, Rig, native
from tests.suites.cases.kit import note, says

pytestmark = pytest.mark.asyncio(loop_scope="module")


def prepare(rig: Rig) -> None:
    """An upstream without a credential, and one whose own header is a key."""
    rig.catalog["upstreams"]["open"] = {"http": {"base_url": "http://127.0.0.1:{upstream}"}}
    rig.catalog["upstreams"]["keyed"] = {"http": {"base_url": "http://127.0.0.1:{upstream}"}, "credential": "key"}
    rig.catalog["upstreams"]["gone"] = {"http": {"base_url": "http://127.0.0.1:{upstream}"}, "credential": "lost"}
    (rig.folder / "key").write_text("service-key-c094")
    (rig.folder / "lost").write_text("soon-gone-c095")
    rig.settings["credentials"] |= {
        "key": {"header_file": "key", "header": "X-Api-Key"},
        "lost": {"bearer_file": "lost"},
    }
    rig.catalog["tools"] += [
        note(),
        note("open_note", upstream="open", system="news"),
        note("keyed_note", upstream="keyed"),
    ]
    rig.catalog["tools"].append(note("gone_note", upstream="gone"))
    rig.catalog["systems"]["news"] = {"audience": "internal"}
    rig.policy["grants"]["tools"] = {"open_note": {"buyer": {}, "unknown": {}}}


CLAIMS = [
    [("X-Agent-User", "admin")],
    [("x-agent-user", "admin")],
    [("X_Agent_User", "admin")],
    [("X-Agent-User", "admin"), ("X-AGENT-USER", "root")],
    [("X-Agent-User", "")],
    [("X-Forwarded-User", "admin"), ("X-Remote-User", "admin"), ("Remote-User", "admin")],
    [("X-Sidegate-Principal", "admin"), ("X-Sidegate-Agent", "admin"), ("X-Sidegate-Call-Id", "f" * 32)],
    [("X-User", "admin"), ("X-Roles", "lead,operator"), ("X-Tenant", "other"), ("X-Spiffe-Id", "spiffe://x/y")],
    [("Baggage", "user=admin,enduser.id=admin"), ("From", "admin@acme.example")],
    [("X-Forwarded-For", "10.0.0.1"), ("Forwarded", "for=10.0.0.1"), ("Via", "1.1 x")],
]


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda c: c[0][0])
@pytest.mark.parametrize("known", [True, False])
async def test_c092_no_header_is_an_identity(shared: Rig, claims: list[tuple[str, str]], known: bool) -> None:
    """In any spelling, twice or empty, with and without a proof: neither policy nor upstream sees the claim; without a proof
    there is nobody, in words that policy can read."""
    handle = await shared.register("c092") if known else None
    answer = await sent(shared, handle, "open_note", claims)
    (received,) = shared.sent(answer)
    assert not {name.lower() for name, _ in claims} & {name for name, _ in received.headers}
    assert "admin" not in json.dumps(received.headers)
    (intent,) = shared.records(kind="intent", call=answer)
    document = json.dumps(intent["input"])
    assert not any(word in document for word in ("admin", "lead", "10.0.0.1", "spiffe://x", "f" * 32))
    principal = intent["input"]["principal"]
    assert (principal["name"], principal["roles"]) == (("Ada Example", ["buyer"]) if known else (None, ["unknown"]))
    assert (principal["tenant"], intent["input"]["agent"]["spiffe_id"]) == ("acme" if known else None, None)


async def sent(shared: Rig, handle: str | None, name: str, headers: list[tuple[str, str]]) -> str:
    """Send a call with these very header lines; its call id."""
    body = native(name, {"text": 1})
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
    if handle is not None:
        lines += f"x-sidegate-conversation: {handle}\r\n"
    head = f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{lines}"
    answer = await shared.raw(
        f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["call_id"])


CALLERS = [
    ("Cookie", "session=c094"),
    ("X-Custom", "c094"),
    ("Proxy-Authorization", "Basic c094"),
    ("X-Goog-Api-Key", "c094"),
]
ALLOWED = {"host", "accept", "accept-encoding", "user-agent", "traceparent", "content-type", "content-length"}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("note", {"authorization": f"Bearer {CREDENTIAL}"}),
        ("keyed_note", {"x-api-key": "service-key-c094"}),
        ("open_note", {}),
    ],
)
async def test_c094_the_upstream_sees_its_own_credential_and_nothing_of_the_caller(
    shared: Rig, name: str, own: dict[str, str]
) -> None:
    """Authorization, cookies, keys and whatever else the caller sends stop here; an upstream without a credential gets none."""
    await shared.register("c094")
    token = shared.users["ada"]
    caller = [
        *CALLERS,
        ("X-Api-Key", "caller-key-c094"),
        ("Authorization", f"Bearer {token}"),
        ("X-Conversation-Id", "c094"),
    ]
    answer = await sent(shared, None, name, caller)
    (received,) = shared.sent(answer)
    headers = dict(received.headers)
    assert {key: value for key, value in headers.items() if key not in ALLOWED} == own
    assert token not in json.dumps(received.headers)
    assert headers["user-agent"].startswith("sidegate/")
    (intent,) = shared.records(kind="intent", call=answer)
    assert intent["credential"] == {"note": "api", "keyed_note": "key", "open_note": None}[name]


async def test_c094_no_cookie_is_kept(shared: Rig) -> None:
    """What an upstream sets at one user's call does not come back with another's, nor to the agent."""
    ada, ben = await shared.register("c094a"), await shared.register("c094b", user="ben")
    shared.upstream.answer = says(b"{}", media_type="application/json\r\nset-cookie: sid=of-ada; path=/")
    first = await shared.send(ada, "note", {"text": 1})
    second = await shared.send(ben, "note", {"text": 1})
    assert first.status == second.status == 200
    assert "set-cookie" not in first.headers
    assert "cookie" not in dict(shared.sent(second.call_id)[0].headers)


@pytest.mark.parametrize("missing", ["gone", "empty"])
async def test_c095_no_other_credential_takes_its_place(shared: Rig, missing: str) -> None:
    """A credential that cannot be read: the call fails before anything is sent, says why and whom to ask, and no other one and
    no unauthenticated request goes out instead. (Users' own credentials: a later part.)"""
    handle = await shared.register(f"c095-{missing}")
    path = shared.folder / "lost"
    if missing == "gone":
        path.unlink(missing_ok=True)
    else:
        path.write_text("")

    async def noticed() -> bool:
        return (await shared.send(handle, "gone_note", {"text": missing})).code != ""

    await shared.until(noticed, "the change is noticed")
    shared.upstream.received.clear()
    answer = await shared.send(handle, "gone_note", {"text": f"{missing} again"})
    assert (answer.code, answer.body["refusal"]["ran"]) == ("tool_unreachable", "no")
    assert "credential" in answer.body["refusal"]["message"]
    assert "soon-gone-c095" not in json.dumps(answer.body) + json.dumps(await shared.ended(answer.call_id))
    assert shared.upstream.received == []
    assert shared.records(kind="intent", call=answer.call_id)[0]["credential"] == "lost"


async def test_c095_a_401_of_the_upstream_is_no_reason_for_another_try(shared: Rig) -> None:
    """Refused by the upstream: told as that, one request, the credential that was used on record."""
    handle = await shared.register("c095u")
    shared.upstream.answer = says(b"{}", status="401 No")
    answer = await shared.send(handle, "keyed_note", {"text": 1})
    assert answer.code == "tool_failed"
    assert "401" in answer.body["refusal"]["message"]
    assert len(shared.sent(answer.call_id)) == 1
    assert shared.records(kind="intent", call=answer.call_id)[0]["credential"] == "key"
