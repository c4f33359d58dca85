"""Whether a server is set up to keep state: what it acknowledges it must have flushed, and it must not throw rows away."""

import hiredis

from proxy.adapters.store_valkey_connection import Ask
from proxy.adapters.store_valkey_troubles import refused_by_server, word_of

NEEDED = {
    "appendonly": ("yes", "what it acknowledges could be lost"),
    "appendfsync": ("always", "what it acknowledges could be lost"),
    "maxmemory-policy": ("noeviction", "it would throw state away when its memory is full"),
}
_UNTOLD = ("NOPERM", "ERR")  # not permitted, or not known to it


class StoreSettingError(Exception):
    """The server is there, and not fit to keep state: a sentence for each thing."""


async def refuse_unfit(ask: Ask) -> None:
    """Raises StoreSettingError where it is set up otherwise or does not tell, Refusal where it cannot serve."""
    wrong = []
    for name in NEEDED:
        said = await told(ask, name)
        if said is None:
            raise StoreSettingError(
                f"the store does not say whether it keeps what it acknowledges (CONFIG GET {name}): allow +config|get to "
                "this user, or state `appendfsync: stated` in the settings if it runs with appendfsync always and "
                "maxmemory-policy noeviction"
            )
        wrong += not_as_needed(name, said)
    if wrong:
        raise StoreSettingError("; ".join(wrong))


async def told(ask: Ask, name: str) -> str | None:
    """A setting of the server; None if it does not tell. Raises Refusal where it cannot serve."""
    reply = await ask("CONFIG", "GET", name)
    if isinstance(reply, hiredis.ReplyError):
        if word_of(reply) in _UNTOLD:
            return None
        raise refused_by_server(reply)
    return bytes(reply[1]).decode(errors="replace") if isinstance(reply, list) and len(reply) == 2 else None


def not_as_needed(name: str, said: str) -> list[str]:
    """A sentence, if it is set otherwise."""
    wanted, harm = NEEDED[name]
    if said == wanted:
        return []
    return [f"the store runs without `{name} {wanted}`: {harm}; set it on the server (CONFIG SET, or its file)"]
