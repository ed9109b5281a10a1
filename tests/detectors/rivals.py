"""Other processes at the same store: `python -m tests.detectors.rivals ACTION ADDRESS NUMBER` says ready, waits for a
line on its standard input, acts, and tells by its exit status whether it won (0) or met a Conflict (1)."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from detectors.errors import Conflict, InvalidInput, Unavailable
from detectors.objects import ObjectStore
from detectors.registry import Registry
from detectors.store import open_store
from tests.detectors.artefacts import artefact

ROOT = Path(__file__).parents[2]
WON, LOST = 0, 1
SIZE = 300_000
ROUNDS = 10
LINE = "press-4/door"


class Rival:
    """One process that waits for `go`."""

    def __init__(self, action: str, address: str | Path, number: int) -> None:
        command = [sys.executable, "-m", "tests.detectors.rivals", action, str(address), str(number)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)

    def told(self) -> str:
        """The next line it prints; blocks."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Let it act."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def ended(self) -> tuple[int, str]:
        """Exit status and what it printed since."""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out.strip()


def race(action: str, address: str | Path, count: int) -> list[tuple[int, str]]:
    """Let `count` processes do the same at the same moment; exit status and output of each."""
    rivals = [Rival(action, address, number) for number in range(count)]
    assert [rival.told() for rival in rivals] == ["ready"] * count
    for rival in rivals:
        rival.go()
    return [rival.ended() for rival in rivals]


def outcomes(action: str, address: str | Path, count: int) -> list[int]:
    """As `race`, the exit statuses alone."""
    return [status for status, _ in race(action, address, count)]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def swap(address: str, number: int) -> None:
    """Against the state before the race: what `p` was then lies in `before`."""
    store = open_store(address)
    before = store.read("before")
    store.swap("p", str(number).encode(), expected=before.etag if before else None)


def put_other(address: str, number: int) -> None:
    open_store(address).put("a/b/c", str(number).encode() * SIZE)


def put_equal(address: str, number: int) -> None:
    open_store(address).put("a/b/c", b"same")


def count(address: str, number: int) -> None:
    """Two threads that count one number up, ROUNDS times each."""

    def up() -> None:
        store = open_store(address)
        for _ in range(ROUNDS):
            while not _counted(store):
                pass

    threads = [threading.Thread(target=up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _counted(store: ObjectStore) -> bool:
    now = store.read("n")
    try:
        store.swap("n", str(int(now.data if now else 0) + 1).encode(), expected=now.etag if now else None)
    except Conflict:
        return False
    return True


def write(address: str, number: int) -> None:
    """Write objects until killed."""
    store = open_store(address)
    now = store.read("pointer")
    etag = now.etag if now else None
    for each in range(number, 1_000_000):
        data = bytes([each % 256]) * SIZE
        store.put(f"images/{each}", data)
        etag = store.swap("pointer", data, expected=etag)
        say("wrote")


def fill(address: str, number: int) -> None:
    """A limit on the size of files is what a full disk looks like to one process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        open_store(address).put("big", b"x" * 5000)
    except Unavailable as error:
        say(str(error))


def look(address: str, number: int) -> None:
    """Into a folder that is closed to us; root, whom nothing is closed to, becomes nobody."""
    store = open_store(address)
    (Path(address) / "a").chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    for call in (lambda: store.get("a/b"), lambda: store.exists("a/b"), lambda: store.keys("a/")):
        try:
            say(str(call()))
        except Unavailable as error:
            say(str(error))


def publish(address: str, number: int) -> None:
    """Each an artefact of its own."""
    say(str(Registry(open_store(address)).publish(LINE, artefact(LINE, content=str(number)))))


def publish_request(address: str, number: int) -> None:
    """Runs of one request, whose fits came out differently."""
    say(str(Registry(open_store(address)).publish(LINE, artefact(LINE, content=str(number), request_id="r1"))))


def promote(address: str, number: int) -> None:
    Registry(open_store(address)).promote(LINE, number + 1)


def promote_first(address: str, number: int) -> None:
    Registry(open_store(address)).promote(LINE, number + 1, expected_sequence=0)


def change_pointers(address: str, number: int) -> None:
    """What people and sensors do to a line's pointers, ROUNDS times, each a turn of its own."""
    registry = Registry(open_store(address))
    turns: tuple[Callable[[], object], ...] = (
        lambda: registry.promote(LINE, 2, beside=True),
        lambda: registry.rollback(LINE),
        lambda: registry.set_challenger(LINE, 3),
        lambda: registry.clear_challenger(LINE, 3),
        lambda: registry.promote(LINE, 1),
    )
    for turn in range(ROUNDS):
        with suppress(InvalidInput):  # 3 is the champion now
            turns[(number + turn) % len(turns)]()


def set_point(address: str, number: int) -> None:
    registry = Registry(open_store(address))
    registry.set_operating_point(LINE, 1, threshold=float(number), by="ana", why="race", at=0.0)


ACTIONS: tuple[Callable[[str, int], None], ...] = (
    swap, put_other, put_equal, count, write, fill, look, publish, publish_request, promote, promote_first, change_pointers,
    set_point,
)  # fmt: skip


def main(name: str, address: str, number: str) -> int:
    (action,) = [each for each in ACTIONS if each.__name__ == name]
    say("ready")
    sys.stdin.readline()
    try:
        action(address, int(number))
    except Conflict:
        return LOST
    return WON


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
