"""The guarded script on the server, and what each answer tells beside: the stop switches, and whether reviews have changed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from proxy.adapters.store_valkey_connection import (
    Ask,
    Connection,
    Reply,
    StoreSettingError,
    refused_by_server,
    unavailable,
)
from proxy.adapters.store_valkey_rows import SCRIPT, Command, Seal, script_words
from proxy.errors import Refusal
from proxy.settings import Valkey

Change = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Answer:
    """What the script said. `rows` of the caller's guards: b"" where it is as known, None where there is none."""

    done: bool
    rows: Sequence[bytes | None]
    replies: Sequence[Reply]


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
                await self.run([], [])
            except Refusal:
                if loop.time() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def run(
        self, guards: Sequence[tuple[bytes, str]], commands: Sequence[Command], *, counter: int | None = None
    ) -> Answer:
        """Do the commands, all or none, if the guarded rows have these versions and `counter`, if given, stands. Raises Refusal."""
        standing = f"~{self.counter}" if counter is None else str(counter)
        own = [(self._switches_key, f"~{self._switches_version}"), (self._counter_key, standing)]
        done, rows, *replies = await self._evaluate(script_words([*own, *guards], commands))
        self._notice(*rows[:2])
        return Answer(bool(done), rows[2:], replies[0] if replies else ())

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

    async def _evaluate(self, words: list[str | bytes | int]) -> Reply:
        reply = await self._connection.ask("EVALSHA", self._sha, *words)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            loaded = await self._connection.ask("SCRIPT", "LOAD", SCRIPT)
            if not isinstance(loaded, hiredis.ReplyError):
                self._sha = loaded
                reply = await self._connection.ask("EVALSHA", self._sha, *words)
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).split(" ", 1)[0] in ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH"):
                self._connection.drop("the server cannot serve")  # behind this name there may be another one by now
            raise refused_by_server(reply)
        return reply

    async def _fit(self, ask: Ask) -> None:
        """A new connection: the server must flush before it answers, or what it acknowledges is not durable."""
        if self._settings.appendfsync == "stated":
            reply = await ask("PING")
            if isinstance(reply, hiredis.ReplyError):
                raise refused_by_server(reply)
            return
        for name, wanted in (("appendonly", b"yes"), ("appendfsync", b"always")):
            reply = await ask("CONFIG", "GET", name)
            if isinstance(reply, hiredis.ReplyError):
                word = str(reply).split(" ", 1)[0]
                if word not in ("NOPERM", "ERR"):
                    raise refused_by_server(reply)
                raise StoreSettingError(
                    f"the store does not say whether it flushes ({word} on CONFIG GET {name}): allow +config|get to this "
                    "user, or state `appendfsync: stated` in the settings if it runs with appendfsync always"
                )
            if list(reply) != [name.encode(), wanted]:
                raise StoreSettingError(
                    f"the store runs without `{name} {wanted.decode()}`: what it acknowledges could be lost; set it on the "
                    "server (CONFIG SET, or its file)"
                )
