"""Cases of section 5: OPA and policy (C035-C043), through the running sidecar."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.e2e.rig import Rig, native, tool
from tests.e2e.stub_opa import StubOpa, say
from tests.suites.cases.kit import TEXT_DIALECTS, in_dialect, note, refused
from tests.suites.cases.own_policies import CONFLICTED, bring

pytestmark = pytest.mark.asyncio(loop_scope="module")


def prepare(rig: Rig) -> None:
    """A policy whose evaluation can fail, tools for it."""
    bring(rig, {"conflicted": CONFLICTED})
    rig.policy["grants"]["tools"] = {"nowhere": {"lead": {}}}
    request = {"method": "POST", "path": "/ping", "body": {}}
    ping = tool("ping", "inventory", "read", request, properties={})
    rig.catalog["tools"] += [note(), note("conflict"), note("nowhere"), ping]


@pytest.mark.parametrize("text", ["userhidden", "hidden user", {"user": ["hidden"]}])
async def test_c037_a_conflict_is_no_denial(shared: Rig, text: Any) -> None:
    """An evaluation that fails with two values for one rule: refused, told apart from a denial, without any rule's text or
    place for the agent; the record has the class of the fault."""
    handle = await shared.register("c037")
    refusal = await refused(shared, handle, native("conflict", {"text": text}), "policy_invalid")
    told = json.dumps(refusal).lower()
    assert [word for word in ("conflicted", "user_set", "not_exposed", "rego", "eval_", "opa") if word in told] == []
    record = await shared.ended(refusal["call_id"])
    assert "eval_conflict_error" in json.dumps(record["refusal"]["details"])
    assert "conflicted" in json.dumps(record["refusal"]["details"])


@pytest.mark.parametrize(("text", "code"), [("user", "user_set"), ("hidden", "not_exposed")])
async def test_c037_one_reason_is_a_denial(shared: Rig, text: str, code: str) -> None:
    """The same policy where its rules agree."""
    handle = await shared.register("c037d")
    refusal = await refused(shared, handle, native("conflict", {"text": text}), "denied")
    assert refusal["reasons"] == [{"policy": "conflicted", "code": code}]


class LateOpa(StubOpa):
    """Undefined, as long as no rule is there yet."""

    active = False

    async def _answer(self, path: str, document: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if self.active:
            await super()._answer(path, document, writer)
        else:
            say(writer, {})


async def test_c038_an_opa_without_its_bundle_is_not_ready(prepared: Rig) -> None:
    """OPA answers from its first moment, before its bundle is active: the sidecar is live, not ready, takes no call, and
    becomes ready by itself."""
    opa = LateOpa(prepared.folder / "opa.sock", prepared.folder / "policy.tar.gz")
    await opa.start()
    prepared.settings["opa"] |= {"mode": "external", "address": f"unix://{opa.socket}", "bundle": str(opa.bundle)}
    starting = asyncio.create_task(prepared.start())
    await prepared.until_true(opa.bundle.exists, "the bundle is written")
    for _ in range(20):
        assert not await prepared.ready()
        with contextlib.suppress(OSError):
            await prepared.raw(b"GET /v1/tools HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            raise AssertionError("the agent port answers before policy is there")
        await asyncio.sleep(0.02)
    opa.active = True
    await starting
    handle = await prepared.register("c038")
    assert (await prepared.call(handle, "get_stock"))[0] == 200
    await opa.stop()


FORBIDDEN = native("nowhere", {"text": "the forbidden field comes last"})
CONTENT: dict[str, tuple[bytes, str | None]] = {
    "text/plain": (FORBIDDEN.encode(), "text/plain"),
    "no type": (FORBIDDEN.encode(), None),
    "form": (FORBIDDEN.encode(), "application/x-www-form-urlencoded"),
    "multipart": (FORBIDDEN.encode(), "multipart/form-data; boundary=x"),
    "json-patch": (FORBIDDEN.encode(), "application/json-patch+json"),
    "JSON twice": (FORBIDDEN.encode(), "application/json, text/plain"),
    "UTF-16 said": (FORBIDDEN.encode("utf-16"), "application/json; charset=utf-16"),
    "UTF-16 unsaid": (FORBIDDEN.encode("utf-16"), "application/json"),
    "UTF-16 without mark": (FORBIDDEN.encode("utf-16-le"), "application/json"),
    "UTF-32": (FORBIDDEN.encode("utf-32-be"), "application/json"),
    "latin-1 said": (FORBIDDEN.encode("latin-1"), "application/json; charset=iso-8859-1"),
    "byte order mark": (b"\xef\xbb\xbf" + FORBIDDEN.encode(), "application/json"),
    "bad UTF-8": (FORBIDDEN.encode().replace(b"forbidden", b"\xff\xfe"), "application/json"),
    "overlong UTF-8": (FORBIDDEN.encode().replace(b"forbidden", b"\xc0\xaf"), "application/json"),
    "UTF-7": (FORBIDDEN.encode("utf-7"), "application/json; charset=utf-7"),
    "cut": (FORBIDDEN.encode()[:-1], "application/json"),
    "NUL behind": (FORBIDDEN.encode() + b"\0", "application/json"),
    "empty": (b"", "application/json"),
}


@pytest.mark.parametrize("name", CONTENT)
async def test_c040_never_a_body_that_policy_does_not_see(shared: Rig, name: str) -> None:
    """Other types, other encodings, cut bodies: refused before OPA is asked, so that no rule over a field can lapse."""
    body, content_type = CONTENT[name]
    handle = await shared.register("c040")
    before = len(shared.upstream.received)
    head = (
        f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sidegate-conversation: {handle}\r\nconnection: close\r\n"
    )
    head += f"content-length: {len(body)}\r\n" + (f"content-type: {content_type}\r\n" if content_type else "")
    answer = (await shared.raw(f"{head}\r\n".encode() + body)).partition(b"\r\n\r\n")
    assert answer[0].startswith(b"HTTP/1.1 400"), answer
    refusal = json.loads(answer[2])["refusal"]
    assert refusal["code"] in {"invalid_call", "invalid_json"}
    record = await shared.ended(refusal["call_id"])
    assert "input" not in record
    assert len(shared.upstream.received) == before
    assert (await shared.call(handle, "get_stock"))[0] == 200


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_c040_the_same_body_in_plain_json_is_judged(shared: Rig, content_type: str) -> None:
    """Spellings of the one accepted type: the rule fires."""
    handle = await shared.register("c040j")
    await refused(shared, handle, FORBIDDEN, "denied", content_type=content_type)


def keys_of(tree: Any) -> Any:
    """The keys of a document, down to what is data of the call or of the history."""
    free = {"arguments", "inputs", "marks", "tools", "counters", "attributes", "calls", "grounding", "resources"}
    if not isinstance(tree, dict):
        return None
    return {key: None if key in free else keys_of(value) for key, value in tree.items()}


async def test_c041_the_input_always_has_the_same_keys(shared: Rig) -> None:
    """With and without user, conversation, trace, arguments, annotations, in every dialect: one set of keys, `arguments` an
    object; what is not known is null, never absent."""
    handle = await shared.register("c041")
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    for who in (handle, None):
        for more in ({}, trace):
            await shared.send(who, "get_stock", **more)
            await shared.post("/v1/tool-calls", '{"id":"c1","tool":"ping"}', who, **more)
            for dialect in TEXT_DIALECTS:
                await shared.post("/v1/tool-calls", in_dialect(dialect, "note", '"{\\"text\\":null}"'), who, **more)
    inputs = [r["input"] for r in shared.records() if "input" in r]
    assert len(inputs) >= 16
    assert {json.dumps(keys_of(document), sort_keys=True) for document in inputs} == {
        json.dumps(keys_of(inputs[0]), sort_keys=True)
    }
    assert all(isinstance(document["call"]["arguments"], dict) for document in inputs)
    assert {document["principal"]["roles"][0] for document in inputs} == {"buyer", "unknown"}


@pytest.mark.parametrize(
    "path",
    [
        "input.call.argument.x",
        "input.tool.annotations.readOnlyHint",
        "input.user",
        "input.session.id",
        "input.principal.role",
    ],
)
async def test_c041_a_rule_over_an_unknown_key_does_not_start(prepared: Rig, path: str) -> None:
    """It would silently never fire: the sidecar ends with a sentence that names the file, and no port was opened."""
    bring(prepared, {"misread": f'deny contains {{"code": "x"}} if {path}\n'})
    with pytest.raises(AssertionError, match="ended with 64") as caught:
        await prepared.start()
    assert "misread.rego" in str(caught.value)
    assert "undefined ref" in str(caught.value)
