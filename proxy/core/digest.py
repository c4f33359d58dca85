"""Digests: of what was declared (SHA-256) and of what a call will send (HMAC-SHA256, design section 8), and masks of secrets.

Canonical form: keys sorted by code point, strings escaped as RFC 8785 (section 3.2.2.2) says, numbers as raw tokens: a double
would let the approval of one amount serve another. Each use has a domain of its own, so no digest serves as another.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.core.strict_json import write

_CALL = b"sidegate call digest 1\0"
_SECRET = b"sidegate secret mask 1\0"


def sha256_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def call_digest(tool: str, arguments: Mapping[str, Any], key: bytes) -> str:
    """HMAC-SHA256 (hex) that names a call: its tool and its arguments as they will be sent (a tree), secrets included."""
    return hmac.digest(key, _CALL + tool.encode() + b"\0" + write(arguments, sort_keys=True), "sha256").hex()


def mask(tree: Any, secrets: Iterable[str], key: bytes) -> Any:
    """A copy of a tree with each value at a dotted path of `secrets` replaced by `hmac:<16 hex>`, arrays looked through.

    Null stays. A scalar where an object was expected on the way is masked too: it may be the secret in another form.
    """
    for path in secrets:
        tree = _masked(tree, path.split("."), key)
    return tree


def _masked(tree: Any, path: list[str], key: bytes) -> Any:
    if tree is None:
        return None
    if not path:
        return "hmac:" + hmac.digest(key, _SECRET + write(tree, sort_keys=True), "sha256").hex()[:16]
    if isinstance(tree, list):
        return [_masked(item, path, key) for item in tree]
    if isinstance(tree, Mapping):
        return {k: _masked(v, path[1:], key) if k == path[0] else v for k, v in tree.items()}
    return _masked(tree, [], key)
