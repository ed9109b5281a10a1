"""Servers whose data lie on a small disk of their own, which can be full: a tmpfs, so it takes root and the right to mount."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from time import sleep

from tests.servers import SERVICES

ROOMY_BYTES = 4 << 30
SLACK_BYTES = 64 << 10


class SmallDisk:
    """A tmpfs in place of a server's folder of data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within the block there is no room for anything more."""
        try:
            self._shrink()
            yield
        finally:
            self._resize(ROOMY_BYTES)

    def _shrink(self) -> None:
        """To what is used now; it may grow in between."""
        for _ in range(20):
            with suppress(subprocess.CalledProcessError):
                space = os.statvfs(self.folder)
                self._resize((space.f_blocks - space.f_bfree) * space.f_frsize + SLACK_BYTES)
                return
        raise TimeoutError(f"{self.folder} grows faster than it can be shrunk")

    def _resize(self, size_bytes: int) -> None:
        _run("mount", "-o", f"remount,size={size_bytes}", self.folder)


def may_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    if os.geteuid() != 0:
        return False
    with TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if tried.returncode == 0:
            _run("umount", folder)
    return tried.returncode == 0


@contextmanager
def small_disks(names: Sequence[str]) -> Iterator[dict[str, SmallDisk]]:
    """Within the block these servers of `make services` run on small disks, each by its name; nothing of their data is lost at the end."""
    with ExitStack() as stack:
        disks = {name: SmallDisk(stack.enter_context(_moved(name))) for name in names}
        yield disks


@contextmanager
def _moved(name: str) -> Iterator[Path]:
    """A server on a tmpfs, back in its own folder at the end."""
    folder, beside = Path(_run(sys.executable, SERVICES, "folder", name).strip()), Path(mkdtemp())
    _run("mount", "-t", "tmpfs", "-o", f"size={ROOMY_BYTES},mode=0700", "tmpfs", beside)
    _run(sys.executable, SERVICES, "stop", name)
    _run("cp", "-a", f"{folder}/.", beside)
    _run("mount", "--bind", beside, folder)
    _run(sys.executable, SERVICES, "start", name)
    try:
        yield folder
    finally:
        _run(sys.executable, SERVICES, "stop", name)
        _unmount(folder)
        _run("find", folder, "-mindepth", "1", "-delete")
        _run("cp", "-a", f"{beside}/.", folder)
        _unmount(beside)
        beside.rmdir()
        _run(sys.executable, SERVICES, "start", name)


def _unmount(folder: Path) -> None:
    """Let a folder go; a process that was killed holds its files for a moment longer."""
    for _ in range(50):
        if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
            return
        sleep(0.2)
    _run("umount", folder)


def revived(*names: str) -> None:
    """Those of the servers that ended are started again, as whoever runs them does; Kafka ends when it cannot write."""
    _run(sys.executable, SERVICES, "start", *names)


def full_for(disk: SmallDisk, name: str, for_s: float) -> None:
    """A server's disk is full for a while; then there is room again."""
    with disk.full():
        sleep(for_s)
    revived(name)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
