"""What each principal has done in a day, over all pods. Each pod writes a share of its own, sealed, and adds up those of all.

A principal's shares of a day are the fields of one hash: a pod's name, and a row. Since no pod writes another's share, pods
need not take turns. Within a pod one write follows another without waiting for its answer: each is guarded by the version
that the one before it leaves, and does nothing if that one has failed; then it is worked out anew, as is all in its step.
A share may be below zero, where a pod has taken back what another had counted; the sum is right.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxy.adapters.store_valkey_rows import Command, Guard, Seal

CALLS = "calls"  # counts a call from its reservation on: one that is committed is counted already
KEPT = 2 * 86400  # seconds from a pod's first write on
REMEMBERED = 10_000  # principals

Whose = tuple[str, str]  # day, principal
Counts = Mapping[str, int]
Changes = Mapping[Whose, Counts]


def together(*changes: Changes) -> Changes:
    """One change for several."""
    result: dict[Whose, Counts] = {}
    for change in changes:
        for whose, counts in change.items():
            result[whose] = added(result[whose], counts) if whose in result else counts
    return result


def added(counts: Counts, more: Counts) -> Counts:
    """The sum of both, without zeros."""
    result = dict(counts)
    for name, by in more.items():
        value = result.get(name, 0) + by
        if value:
            result[name] = value
        else:
            result.pop(name, None)
    return result


@dataclass(slots=True, kw_only=True)
class _Share:
    """This pod's share as its newest write leaves it, written or under way; `name` is what it is sealed for. `turn` grows when a
    write was found to have failed, `heard` is the newest version that the server has told. `others`: shares of other pods,
    version and row and counts."""

    key: bytes
    name: bytes
    version: int = 0
    counts: Counts = field(default_factory=dict)
    turn: int = 0
    heard: int = 0
    others: dict[bytes, tuple[int, bytes, Counts]] = field(default_factory=dict)


class _Written(NamedTuple):
    """One write: the share, how it was before and is after it, and whose turn it was."""

    share: _Share
    before: tuple[int, Counts]
    after: tuple[int, Counts]
    turn: int


class Tallies:
    """Principals that this pod has served lately. To forget one costs a round trip, and what was known of other pods' shares."""

    def __init__(self, seal: Seal, pod: str, remembered: int = REMEMBERED) -> None:
        self._seal = seal
        self._pod = pod.encode()
        self._remembered = remembered
        self._shares: OrderedDict[Whose, _Share] = OrderedDict()
        self._nothing = Writes(seal, self._pod)

    def write(self, changes: Changes, tell: Whose | None) -> "Writes":
        """Writes for these changes, to be sent at once. `tell`: whose sum is wanted."""
        if tell is None and not any(changes.values()):
            return self._nothing
        writes = Writes(self._seal, self._pod)
        for whose, counts in changes.items():
            if counts and whose != tell:
                writes.add(self._share(whose), counts)
        if tell is not None:
            writes.add(self._share(tell), changes.get(tell, {}))
            writes.tell()
        return writes

    def _share(self, whose: Whose) -> _Share:
        share = self._shares.get(whose)
        if share is None:
            key = self._seal.name("tally", " ".join(whose))
            share = self._shares[whose] = _Share(key=key, name=sealed_for(key, self._pod))
            if len(self._shares) > self._remembered:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end(whose)
        return share


class Writes:
    """What one step writes into shares: `guards` and `commands` for the server, and then `done` or `failed`. The sum that is
    wanted comes last."""

    def __init__(self, seal: Seal, pod: bytes) -> None:
        self._seal = seal
        self._pod = pod
        self._written: list[_Written] = []
        self._told: _Written | None = None
        self.guards: list[Guard] = []
        self.commands: list[Command] = []

    def add(self, share: _Share, counts: Counts) -> None:
        """Change this share."""
        before, after = (share.version, share.counts), (share.version + 1, added(share.counts, counts))
        share.version, share.counts = after
        self._written.append(_Written(share, before, after, share.turn))
        self.guards.append((share.key, f"@{self._pod.decode()} {before[0]}"))
        self.commands.append(("HSET", share.key, self._pod, self._seal.row(share.name, *after)))
        if after[0] == 1:
            self.commands.append(("EXPIRE", share.key, KEPT))

    def tell(self) -> None:
        """The sum of the share that was added last is wanted."""
        self._told = self._written[-1]
        self.commands.append(("HGETALL", self._told.share.key))

    def done(self, replies: Sequence[Any]) -> Counts:
        """All has been written: the sum over all pods, if one is wanted. Raises Refusal for a share that is odd or gone."""
        for each in self._written:
            each.share.heard = max(each.share.heard, each.after[0])
        if self._told is None:
            return {}
        flat = replies[len(self.commands) - 1]
        return self._sum(self._told, dict(zip(flat[::2], flat[1::2], strict=True)))

    def failed(self, rows: Sequence[bytes | None]) -> None:
        """None of it has been written, and the server tells these rows. Raises Refusal for an odd one. A write of which nobody
        knows is taken to be there: the next one finds out."""
        for at, each in enumerate(self._written):
            share = each.share
            if share.turn != each.turn:
                continue  # a write before this one has failed, too, and its row was newer or the same
            share.turn += 1
            share.version, share.counts = each.before
            if rows[at] != b"":
                self._told_otherwise(share, rows[at])

    def _told_otherwise(self, share: _Share, row: bytes | None) -> None:
        if row is None and share.heard:
            raise self._seal.gone(share.name)
        share.version, share.counts = (0, {}) if row is None else self._seal.opened(share.name, row, least=share.heard)
        share.heard = share.version

    def _sum(self, told: _Written, rows: Mapping[bytes, bytes]) -> Counts:
        share, result = told.share, dict(told.after[1])
        if gone := share.others.keys() - rows.keys():
            raise self._seal.gone(sealed_for(share.key, min(gone)))
        for pod, row in rows.items():
            if pod == self._pod:
                continue
            known = share.others.get(pod, (0, b"", {}))
            if known[1] != row:
                version, counts = self._seal.opened(sealed_for(share.key, pod), row, least=known[0])
                known = share.others[pod] = (version, row, counts)
            for name, value in known[2].items():
                result[name] = result.get(name, 0) + value
        return result


def sealed_for(key: bytes, pod: bytes) -> bytes:
    """The name for which a pod's share is sealed. Both parts may hold a slash: the length says where the second begins."""
    return b"%s/%s/%d" % (key, pod, len(pod))
