"""Opaque bearer tokens from a file that holds only their SHA-256: a YAML or JSON list of closed entries.

- {hash: "sha256:<hex>", subject: ben, roles: [buyer]}    besides: name, tenant, attributes, issuer, expires (RFC 3339)
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters.watched_file import UnusableFileError, WatchedFile
from proxy.adapters.yaml_file import parse_yaml
from proxy.core.claims import MAX_NAME, check_issuer, refused
from proxy.errors import Code, Refusal, Retry
from proxy.model import Principal
from proxy.ports import Clock

DEFAULT_ISSUER = "token-file"

_REQUIRED = frozenset({"hash", "subject", "roles"})
_OPTIONAL = frozenset({"issuer", "name", "tenant", "attributes", "expires"})
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class TokenFile:
    """TokenVerifier over a watched token file. A removed entry stops working within a second."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._tokens = WatchedFile(path, parse_tokens, clock)

    def check(self) -> None:
        """Raise UnusableFileError if the file cannot be used, for `sidegate check`."""
        self._tokens.value()

    async def verify(self, token: str) -> Principal:
        """See TokenVerifier.

        An ordinary dict look-up is enough: its timing can tell about the hash, for which nobody can choose a matching token.
        """
        try:
            tokens = self._tokens.value()
        except UnusableFileError:
            raise Refusal(
                Code.UNAUTHENTICATED, "tokens cannot be verified now", fix="tell the platform team", retry=Retry.LATER
            ) from None
        principal = tokens.get(hash_token(token))
        if principal is None:
            raise refused("the token is not known")
        if principal.expires_at is not None and self._clock.now() >= principal.expires_at:
            raise refused("the token has expired")
        return principal


def hash_token(token: str) -> str:
    """How a token is written in the file."""
    return f"sha256:{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}"


def token_line(
    *,
    subject: str,
    roles: tuple[str, ...],
    name: str | None = None,
    tenant: str | None = None,
    expires: datetime | None = None,
    mint: Callable[[], str] = lambda: secrets.token_urlsafe(32),
) -> tuple[str, str]:
    """A new random token of 256 bits, and the line to append to a token file in YAML. The token is nowhere else."""
    token = mint()
    entry: dict[str, Any] = {"hash": hash_token(token), "subject": subject, "roles": list(roles)}
    entry |= {key: value for key, value in (("name", name), ("tenant", tenant)) if value is not None}
    if expires is not None:
        entry["expires"] = expires.astimezone(UTC).isoformat()
    return token, f"- {orjson.dumps(entry).decode()}\n"


def parse_tokens(content: bytes) -> Mapping[str, Principal]:
    """Principals by hash. Raises ValueError with the entry's number and what is wrong; an empty list is a list."""
    entries = parse_yaml(content, "tokens")
    if not isinstance(entries, list):
        raise ValueError("must be a list of tokens ([] for none)")  # noqa: TRY004 - wrong content is one kind of error
    tokens: dict[str, Principal] = {}
    for number, entry in enumerate(entries, 1):
        try:
            key, principal = _entry(entry)
        except ValueError as e:
            raise ValueError(f"entry {number}: {e}") from None
        if key in tokens:
            raise ValueError(f"entry {number}: the same hash occurs twice")
        tokens[key] = principal
    return tokens


def _entry(entry: Any) -> tuple[str, Principal]:
    if not isinstance(entry, dict) or not set(entry) >= _REQUIRED:
        raise ValueError("needs hash, subject and roles")
    if not set(entry) <= _REQUIRED | _OPTIONAL:
        raise ValueError(f"may hold {', '.join(sorted(_REQUIRED | _OPTIONAL))} and nothing else")
    key = entry["hash"]
    if not isinstance(key, str) or _HASH.fullmatch(key) is None:
        raise ValueError("hash must be sha256: and 64 lower-case hexadecimal digits")
    issuer = _text(entry, "issuer") or DEFAULT_ISSUER
    check_issuer(issuer)
    return key, Principal(
        issuer=issuer,
        subject=_name(entry["subject"], "subject"),
        name=_text(entry, "name"),
        tenant=_text(entry, "tenant"),
        roles=_roles(entry["roles"]),
        attributes=_attributes(entry.get("attributes")),
        expires_at=_expires(entry.get("expires")),
    )


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ValueError(
            f"{key} must be a text of 1 to {MAX_NAME} printable characters (in quotes, if it looks like a number)"
        )
    return value


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    return None if entry.get(key) is None else _name(entry[key], key)


def _roles(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("roles must be a list of names")  # noqa: TRY004 - wrong content is one kind of error
    return tuple(_name(role, "a role") for role in value)


def _attributes(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("attributes must be a mapping")  # noqa: TRY004 - wrong content is one kind of error
    return value


def _expires(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("expires must be a time with its zone, such as 2027-03-01T12:00:00Z")
    return moment.astimezone(UTC)
