"""What `sidegate check` asks the shared store: everything that would keep a pod from using it, without writing to it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import hiredis

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey import read_mac_key
from proxy.adapters.store_valkey_connection import Ask, Connection
from proxy.adapters.store_valkey_fit import NEEDED, not_as_needed, told
from proxy.adapters.store_valkey_rows import Seal
from proxy.adapters.store_valkey_troubles import refused_by_server, why, word_of
from proxy.errors import Refusal
from proxy.settings import Valkey

PATIENCE = 1.0  # seconds: whoever checks is not in a hurry, and tells a slow server apart from one that is gone
OLDEST = 7  # major version: its scripts keep the first word of an error
PLACE = "/store/valkey"
# Every command that is sent, inside the script or beside it, with words that fit it; KEY is put in.
COMMANDS = (
    "GET KEY",
    "SET KEY 1 EX 1",
    "DEL KEY",
    "EXISTS KEY",
    "EXPIRE KEY 1",
    "HSET KEY f 1",
    "HGET KEY f",
    "HDEL KEY f",
    "HKEYS KEY",
    "HGETALL KEY",
    "ZADD KEY 1 m",
    "ZREM KEY m",
    "ZRANGEBYSCORE KEY 0 1",
    "TIME",
)
# ARGV: a key, then commands as above. Answers the names of those that this user may not run on that key.
_RIGHTS = """
local refused = {}
for i = 2, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do words[#words + 1] = word == 'KEY' and ARGV[1] or word end
  if not redis.acl_check_cmd(unpack(words)) then refused[#refused + 1] = words[1] end
end
return refused
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Sentences: what is wrong, and what could not be seen."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def look_at_store(settings: Valkey) -> Looked:
    """Dial, log in, look and hang up, within a few seconds whatever the server does."""
    found, key = Looked(), b""
    try:
        key = read_mac_key(settings.mac_key_file)
    except UnusableError as e:
        found.problems.append(f"{PLACE}/mac_key_file: {e}")
    connection = Connection(replace(settings, deadline=max(PATIENCE, settings.deadline)), _anyhow)
    try:
        await connection.connect()
        look = _Look(settings, connection.ask, found)
        for step in (look.server, look.setup, look.rights):
            await step()
        if key:
            await look.rows(Seal(key, settings.prefix))
    except Refusal as refusal:
        found.problems.append(f"{PLACE}: {why(refusal)}{_hint(settings, why(refusal))}")
    finally:
        await connection.close()
    return found


async def _anyhow(_: Ask) -> None:
    """Whether the server is fit is said with all else."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One connection. Steps add to `found`, and raise Refusal where to go on makes no sense."""

    settings: Valkey
    ask: Callable[..., Awaitable[Any]]
    found: Looked

    async def server(self) -> None:
        """Who answers, and how fast."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await self.ask("HELLO")
        took = loop.time() - began
        if took > self.settings.deadline:
            self.note(f"an answer took {took * 1000:.0f} ms, longer than `deadline`: a call would have been refused")
        if isinstance(reply, hiredis.ReplyError):
            if word_of(reply) not in ("NOPERM", "ERR"):
                raise refused_by_server(reply)
            self.note("the server does not tell its version (HELLO): see that it is 7.0 or newer")
            return
        said = dict(zip(reply[::2], reply[1::2], strict=False))
        version = bytes(said.get(b"version", b"")).decode(errors="replace")
        major = version.split(".", 1)[0]
        if major.isdigit() and int(major) < OLDEST:
            self.problem(f"the server is version {version[:20]}; it has to be {OLDEST}.0 or newer")
        if said.get(b"role") != b"master":
            self.problem("the server is a replica: name the primary")

    async def setup(self) -> None:
        """Whether it keeps what it is given."""
        stated = self.settings.appendfsync == "stated"
        for name in NEEDED:
            said = await told(self.ask, name)
            wrong = [] if said is None else not_as_needed(name, said)
            if said is None and not stated:
                self.problem(
                    f"this user may not ask for `{name}` (CONFIG GET): allow +config|get, or state `appendfsync: stated`"
                )
            elif said is None:
                self.note(f"the server does not tell its `{name}`: see that it is {NEEDED[name][0]}")
            elif wrong and stated and name != "maxmemory-policy":
                self.note(f"`appendfsync: stated` stands against what the server tells: {wrong[0]}")
            else:
                for sentence in wrong:
                    self.problem(sentence)

    async def rights(self) -> None:
        """Whether this user may do all that is needed, on our keys."""
        key, who = Seal(b"", self.settings.prefix).name("check"), self.settings.username or "default"
        if (sha := await self._permitted("script|load", "SCRIPT", "LOAD", _RIGHTS)) is None:
            return
        refused = await self._permitted("evalsha", "EVALSHA", sha, 0, key, *COMMANDS)
        if refused is None:
            return
        names = [name.decode() for name in refused]
        if len(names) == sum("KEY" in command for command in COMMANDS):
            self.problem(f"user {who} may not use our keys (ACL: ~{{{self.settings.prefix}}}:*)")
        elif names:
            self.problem(f"user {who} may not run {', '.join(names)} on our keys (ACL: +{' +'.join(names).lower()})")

    async def rows(self, seal: Seal) -> None:
        """Whether our key has sealed what is there."""
        seen = 0
        for kind in ("group", "switches"):
            row = await self.ask("GET", seal.name(kind))
            if isinstance(row, hiredis.ReplyError) and word_of(row) != "NOPERM":
                raise refused_by_server(row)
            if not isinstance(row, bytes):
                continue
            seen += 1
            if not seal.ours(seal.name(kind), row):
                self.problem(
                    "the rows in the store were not written with this `mac_key_file`: it is to be the same in all pods "
                    "that share a `prefix`"
                )
                return
            if kind == "switches":  # without which no call is let through
                self._readable(seal, row)
        if not seen:
            self.note("no pod has used the store under this `prefix` yet, so its `mac_key_file` cannot be compared")

    def _readable(self, seal: Seal, row: bytes) -> None:
        try:
            seal.opened(seal.name("switches"), row)
        except Refusal as refusal:
            self.problem(why(refusal))

    async def _permitted(self, right: str, *words: str | bytes | int) -> Any:
        reply = await self.ask(*words)
        if not isinstance(reply, hiredis.ReplyError):
            return reply
        if word_of(reply) == "NOPERM":
            who = self.settings.username or "default"
            self.problem(f"user {who} may not run {right.replace('|', ' ').upper()} (ACL: +{right})")
        elif word_of(reply) == "ERR":
            self.note(
                "the server does not tell what this user may do: see that it has the rights that deploy/README.md lists"
            )
        else:
            raise refused_by_server(reply)
        return None

    def problem(self, sentence: str) -> None:
        self.found.problems.append(f"{PLACE}: {sentence}")

    def note(self, sentence: str) -> None:
        self.found.notes.append(f"{PLACE}: {sentence}")


def _hint(settings: Valkey, cause: str) -> str:
    scheme = urlsplit(settings.url).scheme
    if scheme == "redis" and "connection was lost" in cause:
        return "; does it want TLS (rediss://)?"
    return "; does it speak TLS there?" if scheme == "rediss" and "no answer in time" in cause else ""
