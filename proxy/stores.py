"""Where state is kept, and what is kept beside it: opened for a sidecar and for a desk alike."""

import hmac
import logging
import sqlite3
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

from proxy.adapters.journal import Journal
from proxy.adapters.journal_segment import existing_chain
from proxy.adapters.state_directory import UnusableError, make_private, read_or_make_key
from proxy.adapters.store_embedded import EmbeddedStore, open_store
from proxy.adapters.store_sqlite import position
from proxy.adapters.store_valkey import SharedStore, open_shared_store, read_mac_key
from proxy.adapters.store_valkey_time import StoreTime
from proxy.adapters.volume import Volume
from proxy.errors import Refusal
from proxy.ports import Clock
from proxy.settings import Settings

Store = EmbeddedStore | SharedStore

EXPIRE_EVERY = 1.0  # seconds between sweeps over holds

_log = logging.getLogger("sidegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The journal, the room it has, the state, and the secret of digests and masks, which is one for all pods of a shared store."""

    journal: Journal
    volume: Volume
    store: Store
    key: bytes


async def open_state(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Kept:
    """Journal, store, and an end for every call that the last process left executing. Raises UnusableError, JournalError."""
    make_private(settings.state)
    directory, database = settings.state / "journal", settings.state / "state.sqlite"
    try:
        expect = position(database) if settings.store is None else 0
    except (OSError, sqlite3.Error) as e:
        raise UnusableError(f"the state database {database} cannot be used: {e}") from e
    volume = Volume(settings.state, settings.limits.state_bytes, clock)
    journal = Journal.open(
        directory,
        chain=existing_chain(directory) or settings.agent.get("pod") or "sidegate",
        clock=clock,
        expect=expect,
        has_room=volume.has_room,
        copy=sys.stdout.buffer if settings.audit_copy else None,
    )
    stack.push_async_callback(journal.close)
    store = await _store(settings, journal, clock)
    stack.push_async_callback(store.close)
    try:
        recovered = await store.recover()
    except Refusal as e:
        why = (e.details or {}).get("error", e.message)
        raise UnusableError(f"calls that the last process left executing cannot be ended: {why}") from e
    if recovered:
        _log.warning("calls were executing when the last process ended", extra={"fields": {"recovered": recovered}})
    return Kept(journal=journal, volume=volume, store=store, key=_key(settings))


async def _store(settings: Settings, journal: Journal, clock: Clock) -> Store:
    directory, limits, many = settings.state / "journal", settings.limits.of_holds(), settings.limits
    if settings.store is None:
        return await open_store(
            settings.state / "state.sqlite",
            journal,
            directory,
            clock=clock,
            limits=limits,
            in_memory=many.conversations_in_memory,
        )
    return await open_shared_store(
        settings.store,
        journal,
        directory,
        pod=read_or_make_key(settings.state / "pod").hex()[:32],  # of this state directory, whatever runs on it
        time=StoreTime(clock),
        limits=limits,
        in_memory=many.conversations_in_memory,
    )


def _key(settings: Settings) -> bytes:
    if settings.store is None:
        return read_or_make_key(settings.state / "key")
    return hmac.digest(read_mac_key(settings.store.mac_key_file), b"sidegate digests", "sha256")
