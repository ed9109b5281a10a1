"""A configuration with a mistake never takes the last good one away, in whichever process, and says what is wrong."""

import os
from pathlib import Path

import pytest

from detectors.errors import InvalidInput
from streams.lines_in_force import LinesInForce

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


def bank(lines: LinesInForce) -> int:
    return lines.of("tiles").bank


def test_a_change_is_taken_up_at_the_next_question(tmp_path: Path) -> None:
    lines = LinesInForce(tmp_path)
    assert bank(lines) == 4000
    for text, expected in ((GOOD, 2000), (BETTER, 3000)):
        write(tmp_path, text)
        assert bank(lines) == expected
    (tmp_path / "driftline.toml").unlink()
    assert (bank(lines), lines.fault) == (4000, None)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_leaves_the_last_good_one_in_force_and_is_told_once(tmp_path: Path, mistake: str) -> None:
    text, says = MISTAKES[mistake]
    told: list[str] = []
    write(tmp_path, GOOD)
    lines = LinesInForce(tmp_path, told.append)
    write(tmp_path, text)
    assert [bank(lines) for _ in range(3)] == [2000] * 3
    assert told == [lines.fault]
    assert says in told[0]
    assert "the last good configuration stays in force" in told[0]
    write(tmp_path, BETTER)
    assert bank(lines) == 3000
    assert not lines.fault
    assert told[1:] == [f"{tmp_path / 'driftline.toml'} is mended and counts again"]


def test_a_process_that_starts_during_a_mistake_goes_by_the_last_good_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    LinesInForce(tmp_path)
    write(tmp_path, MISTAKES["torn"][0])
    started = LinesInForce(tmp_path)
    assert bank(started) == 2000
    assert started.fault is not None
    write(tmp_path, BETTER)
    assert bank(started) == 3000
    assert not started.fault


def test_a_mistake_from_the_first_day_on_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, MISTAKES["misspelt"][0])
    with pytest.raises(InvalidInput, match="did you mean 'bank'"):
        LinesInForce(tmp_path)


def test_a_file_that_was_taken_away_leaves_nothing_for_a_later_mistake(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    LinesInForce(tmp_path)
    (tmp_path / "driftline.toml").unlink()
    assert bank(LinesInForce(tmp_path)) == 4000
    write(tmp_path, MISTAKES["torn"][0])
    assert bank(LinesInForce(tmp_path)) == 4000


def test_a_folder_in_the_place_of_the_file_is_a_mistake_too(tmp_path: Path) -> None:
    lines = LinesInForce(tmp_path)
    (tmp_path / "driftline.toml").mkdir()
    assert bank(lines) == 4000
    assert lines.fault is not None
    assert "let this user read it" in lines.fault
