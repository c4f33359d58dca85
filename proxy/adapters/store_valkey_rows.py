"""Rows of the shared store: sealed, versioned, and changed by one guarded script.

A row is `VERSION FORMAT MAC BODY`: a decimal number that grows by one with each change, the number of the format that its
body has, HMAC-SHA256 in hex over key, version, format and body, and JSON. So nobody without the key can write a row or put
one in another's place. Who can write to the server can still take rows away or bring back old ones; `opened` is told the
version last seen, and refuses what has gone back.

While pods of two versions of Sidegate run side by side, one of the older version can meet a row of a later format. It cannot
know what it would pass over, so it refuses what it needs that row for, and nothing else.
"""

import hmac
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import orjson

from proxy.adapters.store_valkey_troubles import unavailable

FORMAT = 1  # of bodies; the next one whenever a version before could misread them, a new field included
FOREIGN = "a row of the shared store was not written by us"
UNKNOWN = (
    "a row of the shared store is of format {}, and this version of Sidegate reads format "
    f"{FORMAT}: give all pods the same version"
)
_TOLD = 1000  # rows

Command = tuple[str | bytes | int, ...]  # name, key if it has one, further arguments
Guard = tuple[bytes, str]  # key, and the version that is known, as SCRIPT says

_log = logging.getLogger("sidegate")

# KEYS: rows that are guarded, then those of the commands. ARGV: how many are guarded and their versions as the pod knows
# them (`~` before it: only tell; `@FIELD ` before it: the row is a field of a hash), then each command as (number of words with
# its key, name, index of its key or 0, further words). Answers {1, rows, replies}; {0, rows} if a guard did not hold, and then
# nothing has been done. A row that is as known is ''.
SCRIPT = """
local guards, rows, holds = tonumber(ARGV[1]), {}, 1
for i = 1, guards do
  local known, row = ARGV[i + 1], nil
  if string.sub(known, 1, 1) == '@' then
    local field = string.match(known, '^@(%S+) ')
    known, row = string.sub(known, #field + 3), redis.call('HGET', KEYS[i], field)
  else
    row = redis.call('GET', KEYS[i])
  end
  local version = row and (string.match(row, '^[1-9]%d*') or '?') or '0'
  local tell = string.sub(known, 1, 1) == '~'
  if tell then known = string.sub(known, 2) end
  if version == known then rows[i] = '' else
    rows[i] = row
    if not tell then holds = 0 end
  end
end
if holds == 0 then return {0, rows} end
local at, replies = guards + 2, {}
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local command = {ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])]}
  for i = 3, words do command[i] = ARGV[at + i] end
  replies[#replies + 1] = redis.call(unpack(command))
  at = at + words + 1
end
return {1, rows, replies}
"""


class Seal:
    """Makes rows and opens them. `prefix` is a hash tag, so that all keys of one group lie on one shard."""

    def __init__(self, key: bytes, prefix: str) -> None:
        secret = hmac.digest(key, b"sidegate rows", "sha256").ljust(sha256().block_size, b"\0")
        # HMAC as RFC 2104 writes it, from states that have the key in them: half the time of `hmac.digest`, several times a call.
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in secret)) for pad in (0x36, 0x5C))
        self._prefix = f"{{{prefix}}}:".encode()
        self._told: set[bytes] = set()  # rows of other formats, and the like, that were logged

    def name(self, kind: str, name: str = "") -> bytes:
        """The key of something."""
        return self._prefix + f"{kind}:{name}".encode()

    def row(self, key: bytes, version: int, body: Any) -> bytes:
        """A row with this JSON value."""
        text = orjson.dumps(body)
        return b"%d %d %s %s" % (version, FORMAT, self._mac(key, version, FORMAT, text), text)

    def opened(self, key: bytes, row: bytes, *, least: int = 0) -> tuple[int, Any]:
        """Version and value. Raises Refusal state_unavailable for a row that we have not written there, an older one, and one
        of a format that this version of Sidegate does not know."""
        version, format_, text = self._read(key, row)
        if version < 0:
            raise self._odd(key, FOREIGN)
        if version < least:
            raise self._odd(key, "a row of the shared store has gone back")
        if format_ != FORMAT:
            raise self._odd(key, UNKNOWN.format(format_), once=True)
        return version, orjson.loads(text)

    @contextmanager
    def reading(self, key: bytes) -> Iterator[None]:
        """What a row's value is made into. Raises Refusal state_unavailable where it is not what we write."""
        try:
            yield
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise self._odd(key, "a row of the shared store does not hold what it should", once=True) from error

    def ours(self, key: bytes, row: bytes) -> bool:
        """Whether we have written this row there, at any time, in any format."""
        return self._read(key, row)[0] >= 0

    def gone(self, key: bytes) -> Exception:
        """The refusal for a row that has been there."""
        return self._odd(key, "a row of the shared store is gone")

    def _read(self, key: bytes, row: bytes) -> tuple[int, int, bytes]:
        """Version (-1: not ours), format and text."""
        words = row.split(b" ", 3)
        if len(words) < 4 or not all(word.isdigit() and len(word) < 19 for word in words[:2]):
            return -1, 0, b""
        version, format_, mac, text = int(words[0]), int(words[1]), words[2], words[3]
        if not hmac.compare_digest(mac, self._mac(key, version, format_, text)):
            return -1, 0, b""
        return version, format_, text

    def _odd(self, key: bytes, what: str, *, once: bool = False) -> Exception:
        """The refusal, logged; `once`: it stays so, and beats would log it four times a second."""
        if not (once and key in self._told):
            name = key.removeprefix(self._prefix).decode(errors="replace")
            _log.error(what, extra={"fields": {"row": name[:200]}})
        if once and len(self._told) < _TOLD:
            self._told.add(key)
        return unavailable(what)

    def _mac(self, key: bytes, version: int, format_: int, text: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"%s\0%d\0%d\0" % (key, version, format_))
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest().encode()


def script_words(guards: Sequence[Guard], commands: Sequence[Command]) -> list[str | bytes | int]:
    """Number of keys, keys and arguments of `SCRIPT`."""
    keys: list[str | bytes | int] = []
    words: list[str | bytes | int] = [len(guards)]
    for key, version in guards:
        keys.append(key)
        words.append(version)
    for command in commands:
        keys += command[1:2]
        words.extend((max(2, len(command)), command[0], len(keys) if len(command) > 1 else 0))
        words.extend(command[2:])
    return [len(keys), *keys, *words]
