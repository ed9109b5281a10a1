"""The camera on the embedded store and bus: what it sends, when it is durable, and what a watched folder sends once."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.images import decode, encode_png
from detectors.store import FolderStore
from streams.bus import Record
from streams.camera import (
    Camera,
    FolderWatch,
    ImageSent,
    Pace,
    PhaseEnded,
    PhaseStarted,
    SentFiles,
    photograph,
    replay,
)
from streams.local import LocalBus
from streams.messages import LineImage
from streams.messages import decode as decode_message
from streams.perturbation import Perturbation
from streams.scenario import PlannedImage

NOW = 1_790_000_000.0


class Line:
    """A camera with its store and bus, and what has arrived on it so far."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder / "objects")
        self.bus = LocalBus(folder / "bus.sqlite")
        self.producer = self.bus.producer()
        self.camera = Camera(self.store, self.producer, line="press-4/door", source="/camera/test", now=lambda: NOW)
        self._consumer = self.bus.consumer("test", ["images"])

    def records(self) -> list[Record]:
        records: list[Record] = []
        while fresh := self._consumer.poll(max_records=100, timeout_s=0.2):
            records += fresh
        return records

    def images(self) -> list[LineImage]:
        return [decode_message(record.value, LineImage) for record in self.records()]

    def close(self) -> None:
        self._consumer.close()
        self.producer.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path)
    yield line
    line.close()


@pytest.fixture
def sent(tmp_path: Path) -> Iterator[SentFiles]:
    sent = SentFiles(tmp_path / "home" / "camera.sqlite")
    yield sent
    sent.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_pixels_lie_in_the_store_and_the_message_claims_them(line: Line) -> None:
    line.camera.send(b"anything", image_id="a", suffix="jpg", taken_at=12.0)
    line.camera.flush()
    (record,) = line.records()
    image = decode_message(record.value, LineImage)
    assert image.digest == hashlib.sha256(b"anything").hexdigest()
    assert line.store.get(image.key) == b"anything"
    assert (image.line, image.image_id, image.taken_at, image.size_bytes) == ("press-4/door", "a", 12.0, 8)
    assert record.key == b"press-4/door"
    assert record.header("ce_dataref") == image.key
    assert record.header("ce_source") == "/camera/test"


def test_sending_again_gives_the_same_message(line: Line) -> None:
    first = line.camera.send(b"x", image_id="a", suffix="png")
    assert line.camera.send(b"x", image_id="a", suffix="png") == first
    assert first.taken_at == NOW


def test_a_line_may_not_be_called_anything(line: Line) -> None:
    with pytest.raises(InvalidInput):
        Camera(line.store, line.producer, line="../up", source="/s", now=lambda: NOW)


def test_files_are_sent_in_order_whatever_they_hold(line: Line, inbox: Path) -> None:
    paths = [inbox / name for name in ("b.jpg", "a.PNG", "empty")]
    for path, data in zip(paths, (b"junk", b"more junk", b""), strict=True):
        path.write_bytes(data)
    returned = line.camera.send_files([*paths, paths[0]])
    images = line.images()
    assert images == returned
    assert [line.store.get(image.key) for image in images] == [b"junk", b"more junk", b"", b"junk"]
    assert len({image.image_id for image in images}) == 4
    assert images[0].image_id.startswith("b.jpg-")


def test_a_missing_file_is_said_before_anything_is_sent(line: Line, inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"gone\.jpg is no file"):
        line.camera.send_files([inbox / "a.jpg", inbox / "gone.jpg"])
    line.camera.flush()
    assert line.images() == []


def test_watched_files_are_sent_once_oldest_first(line: Line, inbox: Path, sent: SentFiles) -> None:
    watch = FolderWatch(line.camera, inbox, sent=sent)
    (inbox / "deep").mkdir()
    for age, name in enumerate(["new.jpg", "deep/old.png"]):
        (inbox / name).write_bytes(name.encode())
        os.utime(inbox / name, (1000 - age, 1000 - age))
    for name in (".hidden.jpg", "notes.txt", "empty.jpg"):
        (inbox / name).write_bytes(b"" if name == "empty.jpg" else b"x")
    assert watch.look() == []  # seen for the first time: may still be being written
    assert [image.image_id.rpartition("-")[0] for image in watch.look()] == ["deep/old.png", "new.jpg"]
    assert watch.look() == []
    assert len(line.images()) == 2


def test_a_file_still_being_written_waits(line: Line, inbox: Path, sent: SentFiles) -> None:
    watch, path = FolderWatch(line.camera, inbox, sent=sent), inbox / "a.jpg"
    for written in range(1, 4):
        path.write_bytes(b"x" * written)
        assert watch.look() == []
    (image,) = watch.look()
    assert line.store.get(image.key) == b"xxx"


def test_nothing_is_sent_again_after_a_restart(line: Line, inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    memory = tmp_path / "camera.sqlite"
    for expected in (1, 0):
        sent = SentFiles(memory)
        watch = FolderWatch(line.camera, inbox, sent=sent)
        watch.look()
        assert len(watch.look()) == expected
        sent.close()


def test_a_file_that_is_overwritten_counts_as_new(line: Line, inbox: Path, sent: SentFiles) -> None:
    watch, path = FolderWatch(line.camera, inbox, sent=sent), inbox / "a.jpg"
    ids = []
    for moment in (1000, 2000):  # the same picture: a frozen camera must show
        path.write_bytes(b"frozen")
        os.utime(path, (moment, moment))
        watch.look()
        ids += [image.image_id for image in watch.look()]
    assert len(set(ids)) == 2


def test_a_crash_before_remembering_sends_the_same_identity_again(line: Line, inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    for name in ("before.sqlite", "after.sqlite"):  # what was sent before is forgotten
        sent = SentFiles(tmp_path / name)
        watch = FolderWatch(line.camera, inbox, sent=sent)
        watch.look()
        watch.look()
        sent.close()
    first, second = line.images()
    assert first.identity == second.identity
    assert first.digest == second.digest


def test_one_file_may_go_to_two_lines(line: Line, inbox: Path, sent: SentFiles) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    other = Camera(line.store, line.producer, line="other", source="/s", now=lambda: NOW)
    for camera in (line.camera, other):
        watch = FolderWatch(camera, inbox, sent=sent)
        watch.look()
        assert len(watch.look()) == 1


def test_watching_runs_until_it_is_stopped(line: Line, inbox: Path, sent: SentFiles) -> None:
    """The loop itself: it sends a file without being asked to look, and ends when told."""
    (inbox / "a.jpg").write_bytes(b"x")
    arrived = threading.Event()

    class Telling(SentFiles):
        def remember(self, line: str, files: object) -> None:
            arrived.set()

    def run() -> None:
        memory = Telling(inbox.parent / "camera.sqlite")
        own = LocalBus(inbox.parent / "bus.sqlite").producer()
        camera = Camera(line.store, own, line="l", source="/s", now=lambda: NOW)
        FolderWatch(camera, inbox, sent=memory).run(stop=stop, poll_s=0.01)
        own.close()
        memory.close()

    stop = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert arrived.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_folder_that_is_none_is_refused(line: Line, inbox: Path, sent: SentFiles) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        FolderWatch(line.camera, inbox / "gone", sent=sent)


# Replay.


class Clock:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def picture(inbox: Path) -> Path:
    path = inbox / "part.png"
    path.write_bytes(encode_png(np.full((8, 8, 3), 100, np.uint8)))
    return path


def _plan(path: Path, phases: str, perturbation: Perturbation | None = None) -> list[PlannedImage]:
    return [
        PlannedImage(
            phase=phase,
            index=index,
            path=path,
            bad=False,
            perturbation=perturbation or Perturbation(),
            image_id=f"{phase}-{index:04d}-{place}",
            seed=(0, 0, place),
        )
        for place, (phase, index) in enumerate(
            (phase, phases[:place].count(phase)) for place, phase in enumerate(phases)
        )
    ]


def test_a_replay_tells_its_phases_and_each_image_is_durable_when_told(line: Line, picture: Path) -> None:
    clock, seen = Clock(), []
    pace = Pace(rate=2.0, monotonic=clock.monotonic, sleep=clock.sleep)
    for event in replay(line.camera, _plan(picture, "aab"), pace=pace):
        seen.append(event)
        if isinstance(event, ImageSent):
            assert [image.image_id for image in line.images()] == [event.planned.image_id]
    assert [type(event) for event in seen] == [
        PhaseStarted, ImageSent, ImageSent, PhaseEnded, PhaseStarted, ImageSent, PhaseEnded,
    ]  # fmt: skip


def test_images_leave_at_line_speed_and_a_phase_starts_its_own_clock(line: Line, picture: Path) -> None:
    clock, times = Clock(), []
    pace = Pace(rate=4.0, monotonic=clock.monotonic, sleep=clock.sleep)
    for event in replay(line.camera, _plan(picture, "aaabb"), pace=pace):
        if isinstance(event, ImageSent):
            times.append(clock.now)
        if isinstance(event, PhaseEnded):
            clock.now += 50.0  # the driver waits for a settled line
    assert times == [100.0, 100.25, 100.5, 150.5, 150.75]


def test_a_late_image_does_not_slow_down_the_rest(line: Line, picture: Path) -> None:
    clock, times = Clock(), []
    pace = Pace(rate=1.0, monotonic=clock.monotonic, sleep=clock.sleep)
    for event in replay(line.camera, _plan(picture, "aaaa"), pace=pace):
        if isinstance(event, ImageSent):
            times.append(clock.now)
            clock.now += 1.5 if len(times) == 1 else 0.0
    assert times == [100.0, 101.5, 102.0, 103.0]


def test_at_rate_zero_images_wait_for_room_only(line: Line, picture: Path) -> None:
    clock = Clock()
    pace = Pace(rate=0, room=lambda: clock.now >= 103.0, monotonic=clock.monotonic, sleep=clock.sleep)
    times = [
        clock.now for event in replay(line.camera, _plan(picture, "aaa"), pace=pace) if isinstance(event, ImageSent)
    ]
    assert times == pytest.approx([103.0] * 3, abs=0.02)


def test_untouched_images_are_sent_as_they_are_and_others_as_png(line: Line, picture: Path) -> None:
    (plain,) = _plan(picture, "a")
    assert photograph(plain) == (picture.read_bytes(), "png")
    (bright,) = _plan(picture, "a", Perturbation(light=1.5))
    data, suffix = photograph(bright)
    assert suffix == "png"
    np.testing.assert_array_equal(decode(data), np.full((8, 8, 3), 150, np.uint8))


def test_jitter_makes_every_photograph_a_new_one_and_the_same_plan_the_same(picture: Path) -> None:
    planned = _plan(picture, "aaaa", Perturbation(jitter=0.3))
    photographs = [photograph(image) for image in planned]
    assert len(set(photographs)) == 4
    assert photographs == [photograph(image) for image in planned]
