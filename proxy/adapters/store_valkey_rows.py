"""Rows of the shared store: sealed, versioned, and changed by one guarded script.

A row is `VERSION MAC BODY`: a decimal number that grows by one with each change, HMAC-SHA256 in hex over key, version and
body, and JSON. So nobody without the key can write a row or put one in another's place. Who can write to the server can
still take rows away or bring back old ones; `opened` is told the version last seen, and refuses what has gone back.
"""

import hmac
import logging
from collections.abc import Sequence
from typing import Any

import orjson

from proxy.adapters.store_valkey_troubles import unavailable

FOREIGN = "a row of the shared store was not written by us"

Command = tuple[str | bytes | int, ...]  # name, key, further arguments
Guard = tuple[bytes, str]  # key, and the version that is known, as SCRIPT says

_log = logging.getLogger("sidegate")

# KEYS: rows that are guarded, then those of the commands. ARGV: how many are guarded and their versions as the pod knows
# them (`~` before it: only tell; `@FIELD ` before it: the row is a field of a hash), then each command as (number of words,
# name, index of its key, further words). Answers {1, rows, replies}; {0, rows} if a guard did not hold, and then nothing has
# been done. A row that is as known is ''.
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
        self._key = hmac.digest(key, b"sidegate rows", "sha256")
        self._prefix = f"{{{prefix}}}:".encode()

    def name(self, kind: str, name: str = "") -> bytes:
        """The key of something."""
        return self._prefix + f"{kind}:{name}".encode()

    def row(self, key: bytes, version: int, body: Any) -> bytes:
        """A row with this JSON value."""
        text = orjson.dumps(body)
        return b"%d %s %s" % (version, self._mac(key, version, text), text)

    def opened(self, key: bytes, row: bytes, *, least: int = 0) -> tuple[int, Any]:
        """Version and value. Raises Refusal state_unavailable for a row that we have not written there, or an older one."""
        number, text = self._read(key, row)
        if number < 0:
            raise self._odd(key, FOREIGN)
        if number < least:
            raise self._odd(key, "a row of the shared store has gone back")
        return number, orjson.loads(text)

    def ours(self, key: bytes, row: bytes) -> bool:
        """Whether we have written this row there, at any time."""
        return self._read(key, row)[0] >= 0

    def gone(self, key: bytes) -> Exception:
        """The refusal for a row that has been there."""
        return self._odd(key, "a row of the shared store is gone")

    def _read(self, key: bytes, row: bytes) -> tuple[int, bytes]:
        """Version (-1: not ours) and text."""
        version, _, rest = row.partition(b" ")
        mac, _, text = rest.partition(b" ")
        number = int(version) if version.isdigit() and len(version) < 19 else -1
        if number < 0 or not hmac.compare_digest(mac, self._mac(key, number, text)):
            return -1, b""
        return number, text

    def _odd(self, key: bytes, what: str) -> Exception:
        name = key.removeprefix(self._prefix).decode(errors="replace")
        _log.error(what, extra={"fields": {"row": name[:200]}})
        return unavailable(what)

    def _mac(self, key: bytes, version: int, text: bytes) -> bytes:
        return hmac.digest(self._key, b"%s\0%d\0%s" % (key, version, text), "sha256").hex().encode()


def script_words(guards: Sequence[Guard], commands: Sequence[Command]) -> list[str | bytes | int]:
    """Number of keys, keys and arguments of `SCRIPT`."""
    keys = [key for key, _ in guards]
    words: list[str | bytes | int] = [len(guards), *(version for _, version in guards)]
    for command in commands:
        keys.append(command[1])  # type: ignore[arg-type]  # a command's second word is its key
        words += (len(command), command[0], len(keys), *command[2:])
    return [len(keys), *keys, *words]
