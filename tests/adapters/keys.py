"""Key pairs in PEM, made anew for each test run."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def written(folder: Path, name: str, key: Private) -> tuple[Path, Path]:
    """Private and public half as files."""
    private, public = folder / f"{name}.key", folder / f"{name}.pem"
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def rsa_pair(folder: Path, name: str = "rsa", bits: int = 2048) -> tuple[Path, Path]:
    return written(folder, name, rsa.generate_private_key(65537, bits))


def p256_pair(folder: Path, name: str = "p256") -> tuple[Path, Path]:
    return written(folder, name, ec.generate_private_key(ec.SECP256R1()))
