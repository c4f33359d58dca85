"""Signatures of bundles, as OPA makes and checks them (OPA docs, "Bundle File Format: Signing").

OPA itself is asked both times. It sees the members that we read, packed by us, so that nobody can show it another archive.
RSA keys of 2048 bits or more sign with RS256, P-256 keys with ES256; a shared secret would let every reader sign.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.adapters import opa_cli
from proxy.adapters.archive import pack
from proxy.core.layers import SIGNATURES

_RSA_BITS = 2048


class SignatureError(ValueError):
    """The key cannot be used, or the signature is not by it; a sentence."""


async def sign(opa: Path, members: Mapping[str, bytes], key: Path) -> dict[str, bytes]:
    """The members with a signature of them all. Raises SignatureError, OpaFailedError."""
    content = _content(key)
    algorithm = _algorithm(content, key, private=True)
    unsigned = {name: content for name, content in members.items() if name != SIGNATURES}
    with tempfile.TemporaryDirectory(prefix="sidegate-sign-") as name:
        work = Path(name)
        (work / "bundle.tar.gz").write_bytes(pack(unsigned))
        _private(work / "key.pem", content)
        options = ("--bundle", "bundle.tar.gz", "--signing-key", "key.pem", "--signing-alg", algorithm)
        said = await opa_cli.run_opa(opa, "sign", *options, "--output-file-path", ".", directory=work)
        if said.code:
            raise SignatureError(f"{key}: OPA cannot sign with it: {said.text[:300]}")
        return {**unsigned, SIGNATURES: (work / SIGNATURES).read_bytes()}


async def verify(opa: Path, members: Mapping[str, bytes], key: Path) -> None:
    """Check that the holder of `key`'s private half signed exactly these members. Raises SignatureError, OpaFailedError."""
    if SIGNATURES not in members:
        raise SignatureError(
            "is not signed, and `bundle.key` wants a signature: build it with `sidegate policy build --signing-key`"
        )
    content = _content(key)
    algorithm = _algorithm(content, key, private=False)
    with tempfile.TemporaryDirectory(prefix="sidegate-verify-") as name:
        work = Path(name)
        (work / "bundle.tar.gz").write_bytes(pack(members))
        _private(work / "key.pem", content)
        options = ("--bundle", "bundle.tar.gz", "--verification-key", "key.pem", "--signing-alg", algorithm)
        said = await opa_cli.run_opa(opa, "build", *options, "--output", "verified.tar.gz", directory=work)
    if said.code and "rego_" in said.text:  # OPA parses and compiles what it verifies; refused either way
        raise SignatureError(f"its Rego does not compile: {said.text.rpartition('occurred: ')[2][:500]}")
    if said.code:
        why = said.text.rpartition("bundle.tar.gz: ")[2][:300]
        raise SignatureError(f"is not signed by {key}: {why}; sign it with the private key that belongs to it")


def _content(key: Path) -> bytes:
    try:
        return key.read_bytes()
    except OSError as error:
        raise SignatureError(f"{key}: cannot be read: {error.strerror}") from None


def _private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _algorithm(content: bytes, key: Path, *, private: bool) -> str:
    """The signature algorithm of a key in PEM."""
    # Imported here: of no use to a start without signatures, and 40 ms.
    from cryptography.hazmat.primitives import serialization

    wanted = "private" if private else "public"
    try:
        loaded: Any = (
            serialization.load_pem_private_key(content, password=None)
            if private
            else serialization.load_pem_public_key(content)
        )
    except (ValueError, TypeError):
        raise SignatureError(f"{key}: is not a {wanted} key in PEM without a password") from None
    kind = type(loaded).__name__.lower()
    if "rsa" in kind and loaded.key_size >= _RSA_BITS:
        return "RS256"
    if "ec" in kind and getattr(getattr(loaded, "curve", None), "name", "") == "secp256r1":
        return "ES256"
    raise SignatureError(f"{key}: must be an RSA key of {_RSA_BITS} bits or more, or a P-256 key")
