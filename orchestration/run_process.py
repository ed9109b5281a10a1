"""The process that carries out a run, told apart from others that have its number later or elsewhere.

A number alone is no identity: in a container that is started again low numbers recur, and threads have numbers too. The system says when a
process began (in ticks since the machine did) and which start of the machine this is.
"""

import os
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
STATE, STARTED = 0, 19
"""Fields 3 and 22 of /proc/PID/stat, counted behind the name, which may hold anything."""
DEAD = ("Z", "X")


def own_identity() -> str:
    """Number, start and machine of this process; the number alone where the system tells no more."""
    return identity_of(os.getpid()) or str(os.getpid())


def identity_of(pid: int) -> str | None:
    """`pid:start:boot`; None where no process has the number, or it has ended and nobody has fetched its status.

    >>> identity_of(2**30) is None
    True
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = BOOT_ID.read_text().strip()
    except OSError:
        return None
    return None if fields[STATE] in DEAD else f"{pid}:{fields[STARTED]}:{boot}"


def pid_in(identity: str) -> int:
    """The number alone.

    >>> pid_in("17:204533:b0"), pid_in("17")
    (17, 17)
    """
    return int(identity.partition(":")[0])


def is_gone(identity: str) -> bool:
    """Whether that process has ended, as far as the system tells; of a number alone, as earlier versions noted it: whether none
    has it.

    >>> is_gone(own_identity())
    False
    """
    if not (PROC / "self").exists():
        return False
    now = identity_of(pid_in(identity))
    return now is None or (":" in identity and now != identity)
