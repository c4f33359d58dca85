"""The guarded script on the server, and what each answer tells beside: the stop switches, and whether reviews have changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis

from proxy.adapters.store_valkey_connection import Ask, Connection, Reply
from proxy.adapters.store_valkey_fit import StoreSettingError, refuse_unfit
from proxy.adapters.store_valkey_rows import FOREIGN, SCRIPT, Command, Guard, Seal, script_words
from proxy.adapters.store_valkey_troubles import refused_by_server, serves_no_more, unavailable
from proxy.errors import Code, Refusal
from proxy.settings import Valkey

Change = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Answer:
    """What the script said. `rows` of the caller's guards: b"" where it is as known, None where there is none. `tally`: the sum
    that was asked for."""

    done: bool
    rows: Sequence[bytes | None]
    replies: Sequence[Reply]
    tally: Mapping[str, int] = field(default_factory=dict)


class Link:
    """One server. `switches` and `counter` are as the last answer told."""

    def __init__(self, settings: Valkey, key: bytes) -> None:
        self.seal = Seal(key, settings.prefix)
        self.switches: Mapping[str, Any] = {}
        self.counter = 0
        self._settings = settings
        self._switches_version = 0
        self._connection = Connection(settings, self._fit)
        self._sha = b""
        self._switches_key, self._counter_key = self.seal.name("switches"), self.seal.name("reviews")

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return self._connection.up

    async def open(self, seconds: float = 0.0) -> None:
        """Connect, within so many seconds if the server only starts. Raises Refusal state_unavailable, StoreSettingError."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            try:
                await self._connection.connect()
                await self._join()
            except Refusal:
                if loop.time() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def run(self, guards: Sequence[Guard], commands: Sequence[Command], *, counter: int | None = None) -> Answer:
        """Do the commands, all or none, if the guarded rows have these versions and `counter`, if given, stands. Raises Refusal."""
        standing = f"~{self.counter}" if counter is None else str(counter)
        own = [(self._switches_key, f"~{self._switches_version}"), (self._counter_key, standing)]
        words = script_words([*own, *guards], commands)
        reply = await self._connection.ask("EVALSHA", self._sha, *words)
        if isinstance(reply, hiredis.ReplyError):
            reply = await self._again(reply, words)
        if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[1], list) or len(reply[1]) < 2:
            raise unavailable("the server's answer is none of the script's")
        done, rows, *replies = reply
        self._notice(*rows[:2])
        return Answer(bool(done), rows[2:], replies[0] if replies else ())

    async def _join(self) -> None:
        """The first pod of a group leaves a row, so that one with another secret is refused before it writes anything."""
        group = self.seal.name("group")
        row = (await self.run([(group, "0")], [("SET", group, self.seal.row(group, 1, {}))])).rows[0]
        if row and not self.seal.ours(group, row):
            raise StoreSettingError(f"{FOREIGN}: `mac_key_file` is to be the same in all pods that share a `prefix`")

    async def throw(self, record: Mapping[str, Any], change: Change) -> None:
        """Change the switches, after whoever else does. Raises Refusal."""
        while True:
            changed, version = change(self.switches, record), self._switches_version
            row = self.seal.row(self._switches_key, version + 1, changed)
            answer = await self.run(
                [(self._switches_key, str(version))], [("SET", self._switches_key, row)], counter=None
            )
            if answer.done:
                self.switches, self._switches_version = changed, version + 1
                return

    async def each(self, names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
        """Do it for each, also after one whose row cannot be used: what somebody has forged is in nobody else's way. Raises the
        last Refusal, and at once where the server cannot be asked or the cause is another (a journal that is full)."""
        fault: Refusal | None = None
        for name in names:
            try:
                await work(name)
            except Refusal as refusal:
                if refusal.code is not Code.STATE_UNAVAILABLE or not self.connected:
                    raise
                fault = refusal
        if fault is not None:
            raise fault

    async def each_there(self, names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
        """The same, and those whose row cannot be used are left as they are. Raises Refusal where `each` does so at once."""
        try:
            await self.each(names, work)
        except Refusal as refusal:
            if refusal.code is not Code.STATE_UNAVAILABLE or not self.connected:
                raise

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def _notice(self, switches: bytes | None, counter: bytes | None) -> None:
        if switches is None and self._switches_version:
            raise self.seal.gone(self._switches_key)
        if switches:
            self._switches_version, self.switches = self.seal.opened(
                self._switches_key, switches, least=self._switches_version
            )
        if counter != b"":
            if counter is not None and not counter.isdigit():
                raise unavailable("the counter of reviews is no number")
            self.counter = int(counter or 0)

    async def _again(self, error: hiredis.ReplyError, words: list[str | bytes | int]) -> Reply:
        """The script's answer, if the server had only forgotten the script. Raises Refusal."""
        reply: Reply = error
        if str(error).startswith("NOSCRIPT"):
            loaded = await self._connection.ask("SCRIPT", "LOAD", SCRIPT)
            if not isinstance(loaded, hiredis.ReplyError):
                self._sha = loaded
                reply = await self._connection.ask("EVALSHA", self._sha, *words)
        if isinstance(reply, hiredis.ReplyError):
            if serves_no_more(reply):
                self._connection.drop("the server cannot serve")
            raise refused_by_server(reply)
        return reply

    async def _fit(self, ask: Ask) -> None:
        """A new connection: the server must flush before it answers, or what it acknowledges is not durable."""
        if self._settings.appendfsync == "stated":
            reply = await ask("PING")
            if isinstance(reply, hiredis.ReplyError):
                raise refused_by_server(reply)
            return
        await refuse_unfit(ask)
