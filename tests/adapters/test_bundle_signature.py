"""Who signed a bundle is what OPA says of it, and nothing else counts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from proxy.adapters.bundle_signature import SignatureError, sign, verify
from proxy.core.layers import SIGNATURES, team_members
from tests.adapters.keys import p256_pair, rsa_pair, written
from tests.contracts.opa_server import opa_binary

RULE = b"package sidegate.policies.team\n\nimport rego.v2\n\ndeny contains 1\n"
MEMBERS = team_members("team", {"sidegate/policies/team/team.rego": RULE})[1]


@pytest.mark.parametrize("pair", [rsa_pair, p256_pair])
async def test_a_signature_is_good_for_its_own_key_and_no_other(
    tmp_path: Path, pair: Callable[[Path, str], tuple[Path, Path]]
) -> None:
    """RSA and P-256; signing anew replaces the signature that was there."""
    private, public = pair(tmp_path, "one")
    other_private, other_public = pair(tmp_path, "two")
    signed = await sign(opa_binary(), MEMBERS, private)
    await verify(opa_binary(), signed, public)
    with pytest.raises(SignatureError, match=r"is not signed by .*two\.pem"):
        await verify(opa_binary(), signed, other_public)
    again = await sign(opa_binary(), signed, other_private)
    await verify(opa_binary(), again, other_public)


async def test_an_rsa_signature_is_reproducible(tmp_path: Path) -> None:
    private, _ = rsa_pair(tmp_path)
    assert await sign(opa_binary(), MEMBERS, private) == await sign(opa_binary(), MEMBERS, private)


@pytest.mark.parametrize("change", ["changed", "added", "lost", "unsigned", "no signature in it"])
async def test_what_was_changed_after_signing_is_refused(tmp_path: Path, change: str) -> None:
    private, public = rsa_pair(tmp_path)
    signed = await sign(opa_binary(), MEMBERS, private)
    rego = "sidegate/policies/team/team.rego"
    forms = {
        "changed": {**signed, rego: RULE + b"\n"},
        "added": {**signed, "sidegate/policies/team/more.rego": RULE},
        "lost": {name: content for name, content in signed.items() if name != rego},
        "unsigned": MEMBERS,
        "no signature in it": {**MEMBERS, SIGNATURES: b'{"signatures": []}'},
    }
    wanted = "is not signed, and `bundle.key` wants" if change == "unsigned" else "is not signed by"
    with pytest.raises(SignatureError, match=wanted):
        await verify(opa_binary(), forms[change], public)


@pytest.mark.parametrize("rego", [RULE + b"deny contains 1 if {\n", RULE + b"deny contains x\n"])
async def test_signed_rego_that_does_not_compile_is_not_called_unsigned(tmp_path: Path, rego: bytes) -> None:
    """OPA reads it as it verifies; it is refused with the row."""
    private, public = rsa_pair(tmp_path)
    signed = await sign(opa_binary(), team_members("team", {"sidegate/policies/team/team.rego": rego})[1], private)
    with pytest.raises(SignatureError, match=r"its Rego does not compile: sidegate/policies/team/team.rego:[67]: "):
        await verify(opa_binary(), signed, public)


def keys(folder: Path) -> dict[str, Path]:
    """Files that are no public key of ours."""
    secret = folder / "secret"
    secret.write_bytes(b"a shared secret")
    return {
        "absent": folder / "absent",
        "secret": secret,
        "private": rsa_pair(folder)[0],
        "short": rsa_pair(folder, "short", 1024)[1],
        "p384": written(folder, "p384", ec.generate_private_key(ec.SECP384R1()))[1],
        "ed25519": written(folder, "ed", ed25519.Ed25519PrivateKey.generate())[1],
    }


@pytest.mark.parametrize("kind", ["absent", "secret", "private", "short", "p384", "ed25519"])
async def test_a_key_of_another_kind_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    """A shared secret would let every reader sign."""
    key, signed = keys(tmp_path)[kind], await sign(opa_binary(), MEMBERS, rsa_pair(tmp_path, "good")[0])
    with pytest.raises(SignatureError, match=r"cannot be read|public key in PEM|must be an RSA key") as error:
        await verify(opa_binary(), signed, key)
    assert str(key) in str(error.value)


async def test_a_signing_key_has_to_be_a_private_one(tmp_path: Path) -> None:
    private, public = rsa_pair(tmp_path)
    with pytest.raises(SignatureError, match="is not a private key"):
        await sign(opa_binary(), MEMBERS, public)
    assert private.exists()
