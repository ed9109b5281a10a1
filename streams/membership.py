"""Who belongs to a consumer group of the embedded bus, and what each member does about it.

Pure decisions; the only thing read is `/proc`, to see whether a process still runs.

Every member computes the same fair shares from the same tables and moves only its own partitions, so no leader is
needed and a partition stays where it is unless somebody joins, leaves or dies.
"""

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

Slot = tuple[str, int]
"""A partition: (topic, number)."""


@dataclass(frozen=True)
class Process:
    """Which process a member is. `boot` and PID `namespace` say whether its pid means anything to another one."""

    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Self:
        """The calling process.

        >>> Process.this().is_dead(Process.this())
        False
        """
        boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
        return cls(
            boot.read_text().strip() if boot.exists() else "",
            os.readlink(namespace) if namespace.is_symlink() else "",  # noqa: PTH115  a name, not a path
            os.getpid(),
            _start_of(os.getpid()) or "",
        )

    def is_dead(self, here: "Process") -> bool:
        """Whether it certainly runs no more, seen from `here`; False where that cannot be told."""
        if self.boot != here.boot:
            return True
        return self.namespace == here.namespace and _start_of(self.pid) != self.started


@dataclass(frozen=True)
class Member:
    """A member of a group as its row says; `seen_at` on the monotonic clock that all processes of a boot share."""

    name: str
    topics: frozenset[str]
    process: Process
    seen_at: float
    session_timeout_s: float

    def is_gone(self, here: Process, now: float) -> bool:
        """Whether others may take its partitions: its process is dead, or it was silent beyond its session timeout."""
        return self.process.is_dead(here) or now - self.seen_at > self.session_timeout_s


@dataclass(frozen=True)
class Lease:
    """A partition within a group: who owns it, how often it was given out, and the next offset to read."""

    owner: str | None
    epoch: int
    committed: int


@dataclass(frozen=True)
class Plan:
    """What a member changes now: whom it buries, what it takes, what it gives up; `leaving` it gives up once idle."""

    dead: tuple[str, ...]
    take: tuple[Slot, ...]
    give: tuple[Slot, ...]
    leaving: frozenset[Slot]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to be written."""
        return not (self.dead or self.take or self.give)


def plan(
    leases: Mapping[Slot, Lease], members: Iterable[Member], me: Member, *, busy: frozenset[Slot], now: float
) -> Plan:
    """What `me` has to do about its topics; `busy` are the partitions where it has read records and not committed them.

    >>> me = Member("a", frozenset({"images"}), Process.this(), 0.0, 6.0)
    >>> leases = {("images", 0): Lease(None, 0, 0), ("images", 1): Lease("gone", 3, 7)}
    >>> plan(leases, [], me, busy=frozenset(), now=1.0).take
    (('images', 0), ('images', 1))
    """
    others = [member for member in members if member.name != me.name]
    dead = tuple(member.name for member in others if member.is_gone(me.process, now))
    alive = [me, *(member for member in others if member.name not in dead)]
    names = {member.name for member in alive}
    take: list[Slot] = []
    surplus: list[Slot] = []
    for topic in sorted(me.topics):
        owners = {slot: lease.owner for slot, lease in leases.items() if slot[0] == topic}
        share = fair_share(owners, [member.name for member in alive if topic in member.topics], me.name)
        mine = sorted((slot for slot, owner in owners.items() if owner == me.name), key=lambda slot: slot not in busy)
        free = [slot for slot, owner in owners.items() if owner not in names]
        take += free[: max(0, share - len(mine))]
        surplus += mine[share:]
    give = tuple(slot for slot in surplus if slot not in busy)
    return Plan(dead, tuple(take), give, frozenset(surplus) & busy)


def fair_share(owners: Mapping[Slot, str | None], members: Sequence[str], me: str) -> int:
    """How many of a topic's partitions are due to `me`: an equal share; the rest goes to those that hold most already.

    >>> owners = {("images", number): "a" for number in range(3)}
    >>> fair_share(owners, ["a", "b"], "a"), fair_share(owners, ["a", "b"], "b")
    (2, 1)
    """
    held = Counter(owners.values())
    topics = sorted({topic for topic, _ in owners})
    order = sorted(members, key=lambda name: (-held[name], zlib.crc32(f"{topics}{name}".encode())))
    share, over = divmod(len(owners), len(members))
    return share + (order.index(me) < over)


def _start_of(pid: int) -> str | None:
    """Start of a running process in ticks since boot ("" without /proc); None if it does not run (or as a zombie)."""
    try:
        if not Path("/proc/self/stat").exists():
            os.kill(pid, 0)
            return ""
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]
