"""The way of an image into the line: its pixels into the object store, a claim to them onto the bus (claim check).

Bytes are not looked at here: a camera may send anything, and what cannot be scored the scorer sets aside as a dead
letter. Nothing is promised before `flush`; a crash before it may send an image again, with the same identity where
the source remembers it.
"""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.encoding import check_line_name
from detectors.errors import InvalidInput, Unavailable
from detectors.images import decode, encode_png
from detectors.objects import ObjectStore, image_key
from streams.bus import Producer, publish
from streams.messages import LineImage
from streams.perturbation import apply
from streams.scenario import PlannedImage

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
"""Files that a watched folder takes for images; others, and hidden ones, are left alone."""

BATCH = 32
"""Files sent between two flushes."""

ROOM_POLL_S = 0.01

_log = logging.getLogger(__name__)


class Camera:
    """Sends images into one line.

    `source` names the sender in the headers (`/camera/replay`); `now` gives seconds since the epoch. Raises
    InvalidInput for a line that may not be called so.
    """

    def __init__(
        self, store: ObjectStore, producer: Producer, *, line: str, source: str, now: Callable[[], float] = time.time
    ) -> None:
        check_line_name(line)
        self.line = line
        self._store = store
        self._producer = producer
        self._source = source
        self._now = now

    def send(self, data: bytes, *, image_id: str, suffix: str, taken_at: float | None = None) -> LineImage:
        """Put the pixels into the store and the message onto the bus; durable after `flush`.

        `taken_at` defaults to now. The store may raise Unavailable: nothing was sent then, and it may be tried again.
        """
        taken_at = self._now() if taken_at is None else taken_at
        digest = hashlib.sha256(data).hexdigest()
        key = image_key(self.line, digest, at=taken_at, suffix=suffix)
        self._store.put(key, data)
        image = LineImage(
            line=self.line, image_id=image_id, taken_at=taken_at, digest=digest, key=key, size_bytes=len(data)
        )
        publish(self._producer, image, source=self._source, at=self._now())
        return image

    def flush(self) -> None:
        """Return when every image sent so far is durable; raises Unavailable if one is not."""
        self._producer.flush()

    def send_files(self, paths: Sequence[Path]) -> list[LineImage]:
        """Send these files, once for each time they are named, and return when all are durable.

        Sending a file again is a new photograph: its id carries the time. Raises InvalidInput, before anything is
        sent, for a path that is no file.
        """
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise InvalidInput(f"{missing} is no file; give paths of images")
        sent = []
        for number, path in enumerate(paths):
            data = path.read_bytes()
            image_id = _file_id(path.name, data, f"{self._now():.6f}#{number}")
            sent.append(self.send(data, image_id=image_id, suffix=_suffix(path)))
        self.flush()
        return sent


class SentFiles:
    """Remembers, durably, which files of watched folders were sent: one small SQLite file.

    A file is known by its path, size and time of change, so one that is overwritten counts as new.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS sent (line TEXT, path TEXT, size INTEGER, mtime_ns INTEGER,"
            " PRIMARY KEY (line, path, size, mtime_ns)) WITHOUT ROWID"
        )

    def knows(self, line: str, file: "FoundFile") -> bool:
        """True if this state of the file was sent to the line."""
        with closing(self._connection.execute(
            "SELECT 1 FROM sent WHERE line = ? AND path = ? AND size = ? AND mtime_ns = ?", (line, *file.state)
        )) as rows:  # fmt: skip
            return rows.fetchone() is not None

    def remember(self, line: str, files: Iterable["FoundFile"]) -> None:
        """Durable when it returns: these files were sent to the line."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?)", [(line, *file.state) for file in files]
        )
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


@dataclass(frozen=True)
class FoundFile:
    """A file of a watched folder as it was seen."""

    path: Path
    size_bytes: int
    mtime_ns: int

    @property
    def state(self) -> tuple[str, int, int]:
        """What makes it this file in this state."""
        return str(self.path), self.size_bytes, self.mtime_ns


class FolderWatch:
    """Sends the images of a folder (and the folders in it) into a line: each file once, also after a restart.

    A file is sent when two looks in a row found it the same and not empty, so that one still being written waits. It
    is remembered after it is durable: a crash in between sends it again with the same identity, which counts once.
    """

    def __init__(self, camera: Camera, folder: Path, *, sent: SentFiles) -> None:
        if not folder.is_dir():
            raise InvalidInput(f"{folder} is no folder; make it first or correct the path")
        self._camera = camera
        self._folder = folder.absolute()
        self._sent = sent
        self._waiting: dict[Path, FoundFile] = {}

    def look(self) -> list[LineImage]:
        """Look once: send what has settled, oldest first, and return it, durable. After Unavailable, look again."""
        found = [file for file in self._files() if not self._sent.knows(self._camera.line, file)]
        settled = [file for file in found if self._waiting.get(file.path) == file]
        self._waiting = {file.path: file for file in found}
        images: list[LineImage] = []
        for start in range(0, len(settled), BATCH):
            images += self._send(settled[start : start + BATCH])
        return images

    def run(self, *, stop: threading.Event, poll_s: float = 0.5) -> None:
        """Look every `poll_s` seconds until `stop` is set; wait and try again while the store or the bus is away."""
        while not stop.is_set():
            try:
                for image in self.look():
                    _log.info("sent %s", image.image_id)
            except Unavailable as error:
                _log.warning("waiting, nothing is lost: %s", error)
            stop.wait(poll_s)

    def _send(self, files: Sequence[FoundFile]) -> list[LineImage]:
        images, done = [], []
        for file in files:
            try:
                data = file.path.read_bytes()
            except OSError:
                continue  # taken away since: it comes again if it is seen again
            image_id = _file_id(str(file.path.relative_to(self._folder)), data, str(file.mtime_ns))
            images.append(self._camera.send(data, image_id=image_id, suffix=_suffix(file.path)))
            done.append(file)
        self._camera.flush()
        self._sent.remember(self._camera.line, done)
        return images

    def _files(self) -> list[FoundFile]:
        """Images in the folder that are not empty, oldest first."""
        found = []
        for path in self._folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(self._folder).parts)
            if hidden or path.suffix.lower().lstrip(".") not in IMAGE_SUFFIXES:
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # taken away between listing and looking
            if path.is_file() and status.st_size:
                found.append(FoundFile(path, status.st_size, status.st_mtime_ns))
        return sorted(found, key=lambda file: (file.mtime_ns, str(file.path)))


@dataclass(frozen=True)
class Pace:
    """How fast a replay sends: `rate` images per second on a monotonic clock, or, at 0, whenever `room` says so."""

    rate: float
    room: Callable[[], bool] = lambda: True
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self, started: float, index: int) -> None:
        """Return when image `index` of a phase that began at `started` is due; at once if it is late."""
        while self.rate == 0 and not self.room():
            self.sleep(ROOM_POLL_S)
        if self.rate and (early := started + index / self.rate - self.monotonic()) > 0:
            self.sleep(early)


@dataclass(frozen=True)
class PhaseStarted:
    """A phase of the replay begins."""

    phase: str


@dataclass(frozen=True)
class ImageSent:
    """An image was accepted by the bus: it is durable."""

    planned: PlannedImage
    image: LineImage


@dataclass(frozen=True)
class PhaseEnded:
    """Every image of the phase is durable. The next phase's clock starts when the replay is asked to go on."""

    phase: str


ReplayEvent = PhaseStarted | ImageSent | PhaseEnded


def replay(camera: Camera, plan: Iterable[PlannedImage], *, pace: Pace) -> Iterator[ReplayEvent]:
    """Send the planned images at line speed and say what happened; lazily, so that the caller may wait between phases.

    Each image is made ready before it is due. One that came late does not slow down the rest: the line does not wait.
    """
    phase, started, first = None, 0.0, 0
    for number, planned in enumerate(plan):
        data, suffix = photograph(planned)
        if planned.phase != phase:
            if phase is not None:
                yield PhaseEnded(phase)
            phase = planned.phase
            yield PhaseStarted(phase)
            started, first = pace.monotonic(), number
        pace.wait(started, number - first)
        image = camera.send(data, image_id=planned.image_id, suffix=suffix)
        camera.flush()
        yield ImageSent(planned, image)
    if phase is not None:
        yield PhaseEnded(phase)


def photograph(planned: PlannedImage) -> tuple[bytes, str]:
    """Bytes and suffix of a planned image: the file as it is where nothing is done to it, else a PNG of it perturbed.

    Raises ImageError if it is to be perturbed and cannot be decoded.
    """
    data = planned.path.read_bytes()
    if planned.perturbation.is_identity:
        return data, _suffix(planned.path)
    return encode_png(apply(decode(data), planned.perturbation, rng=np.random.default_rng(planned.seed))), "png"


def _suffix(path: Path) -> str:
    return path.suffix.lower().lstrip(".") or "bin"


def _file_id(name: str, data: bytes, moment: str) -> str:
    """An id that people recognise and that is the same for the same file in the same state."""
    return f"{name}-{hashlib.sha256(hashlib.sha256(data).digest() + moment.encode()).hexdigest()[:12]}"
