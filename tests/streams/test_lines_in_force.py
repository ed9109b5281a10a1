"""A configuration with a mistake never takes the last good one away, in whichever process, and says what is wrong."""

import os
import time
from pathlib import Path

import pytest

from detectors.errors import InvalidInput
from streams.lines_in_force import SETTLED_S, LinesInForce
from streams.settings import load_lines

GOOD = "[lines.tiles]\nbank = 2000\n"
BETTER = "[lines.tiles]\nbank = 3000\n"
MISTAKES = {
    "misspelt": ("[lines.tiles]\nbnak = 2000\n", "did you mean 'bank'?"),
    "torn": ("[lines.til", "Expected ']'"),
    "no cron": (
        '[lines.tiles]\nschedule = "daily"\n',
        "line 'tiles': schedule 'daily' is no cron expression: 1 fields",
    ),
    "wrong type": ('[lines.tiles]\nbank = "many"\n', "Expected `int`"),
}


def write(home: Path, text: str) -> None:
    """As an editor saves: whole, under a moment of its own."""
    path = home / "driftline.toml"
    later = path.stat().st_mtime_ns + 1_000_000 if path.exists() else None
    path.write_text(text)
    if later is not None:
        os.utime(path, ns=(later, later))


class Clock:
    """Stands but where it is told to go on, or somebody sleeps."""

    def __init__(self) -> None:
        self.now = time.time()
        self.slept_s = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.now += seconds

    def read(self, home: Path) -> LinesInForce:
        return LinesInForce(home, now=self, sleep=self.sleep)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bank(lines: LinesInForce) -> int:
    return lines.of("tiles").bank


def settled(lines: LinesInForce, clock: Clock) -> int:
    """What counts once the file has stood."""
    bank(lines)
    clock.now += SETTLED_S
    return bank(lines)


def test_a_change_is_taken_up_once_it_has_stood(tmp_path: Path, clock: Clock) -> None:
    lines = clock.read(tmp_path)
    assert bank(lines) == 4000
    for text, before, expected in ((GOOD, 4000, 2000), (BETTER, 2000, 3000)):
        write(tmp_path, text)
        assert bank(lines) == before
        clock.now += SETTLED_S - 0.1
        assert bank(lines) == before
        clock.now += 0.1
        assert (bank(lines), lines.fault) == (expected, None)


def test_a_file_that_is_written_in_pieces_never_counts_as_long_as_it_is_not_whole(tmp_path: Path, clock: Clock) -> None:
    whole = '[lines.a]\nbank = 2000\n[lines.tiles]\nbank = 3000\npromotion = "never"\n'
    write(tmp_path, whole)
    lines = clock.read(tmp_path)
    for cut in range(len(whole) + 1):
        write(tmp_path, whole[:cut])
        clock.now += SETTLED_S / 2
        assert (bank(lines), lines.of("tiles").promotion) == (3000, "never"), cut
        assert (tmp_path / "driftline.last-good.toml").read_text() == whole, "and the last good one is kept"
    assert settled(lines, clock) == 3000
    assert lines.fault is None


@pytest.mark.parametrize("text", ["", " \n", None], ids=["empty", "blank", "missing"])
def test_an_empty_or_missing_file_is_a_mistake_until_the_copy_is_removed_too(
    tmp_path: Path, clock: Clock, text: str | None
) -> None:
    write(tmp_path, GOOD)
    lines = clock.read(tmp_path)
    if text is None:
        (tmp_path / "driftline.toml").unlink()
    else:
        write(tmp_path, text)
    for each in (lines, clock.read(tmp_path)):
        assert (settled(each, clock), settled(each, clock)) == (2000, 2000)
        assert each.fault is not None
        assert f"driftline.toml is {'missing' if text is None else 'empty'}" in each.fault
        assert "holds 26 bytes; write the file again" in each.fault
        assert "or remove both to go back to the defaults" in each.fault
    with pytest.raises(InvalidInput, match="remove both"):
        load_lines(tmp_path)
    (tmp_path / "driftline.toml").unlink(missing_ok=True)
    (tmp_path / "driftline.last-good.toml").unlink()
    assert (settled(lines, clock), lines.fault) == (4000, None)
    assert bank(clock.read(tmp_path)) == 4000
    assert load_lines(tmp_path) == {}


def test_a_process_that_starts_while_the_file_is_written_waits_for_the_rest(tmp_path: Path, clock: Clock) -> None:
    write(tmp_path, GOOD)
    assert bank(clock.read(tmp_path)) == 2000
    assert clock.slept_s == 0.0, "the first file there ever was counts at once"
    write(tmp_path, BETTER)
    clock.now = (tmp_path / "driftline.toml").stat().st_mtime + 0.5
    assert bank(clock.read(tmp_path)) == 3000
    assert clock.slept_s == pytest.approx(SETTLED_S - 0.5)
    assert bank(clock.read(tmp_path)) == 3000
    assert clock.slept_s == pytest.approx(SETTLED_S - 0.5), "it counts already"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_leaves_the_last_good_one_in_force_and_is_told_once(
    tmp_path: Path, clock: Clock, mistake: str
) -> None:
    text, says = MISTAKES[mistake]
    told: list[str] = []
    write(tmp_path, GOOD)
    lines = LinesInForce(tmp_path, told.append, now=clock, sleep=clock.sleep)
    write(tmp_path, text)
    assert [bank(lines) for _ in range(3)] == [2000] * 3
    assert told == [lines.fault]
    assert says in told[0]
    assert "the last good configuration stays in force" in told[0]
    write(tmp_path, BETTER)
    assert settled(lines, clock) == 3000
    assert not lines.fault
    assert told[1:] == [f"{tmp_path / 'driftline.toml'} is mended and counts again"]


def test_a_process_that_starts_during_a_mistake_goes_by_the_last_good_one(tmp_path: Path, clock: Clock) -> None:
    write(tmp_path, GOOD)
    clock.read(tmp_path)
    write(tmp_path, MISTAKES["torn"][0])
    started = clock.read(tmp_path)
    assert bank(started) == 2000
    assert started.fault is not None
    write(tmp_path, BETTER)
    assert settled(started, clock) == 3000
    assert not started.fault


def test_a_mistake_from_the_first_day_on_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, MISTAKES["misspelt"][0])
    with pytest.raises(InvalidInput, match="did you mean 'bank'"):
        LinesInForce(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_a_mistake_too(tmp_path: Path) -> None:
    lines = LinesInForce(tmp_path)
    (tmp_path / "driftline.toml").mkdir()
    assert bank(lines) == 4000
    assert lines.fault is not None
    assert "let this user read it" in lines.fault
