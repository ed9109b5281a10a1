"""Settings and lines: defaults, and a misspelt name that is answered with the nearest valid one."""

from pathlib import Path

import pytest

from detectors.errors import InvalidInput
from streams.settings import KNOWN_VARIABLES, LineConfig, Settings, line_config, load_lines


def write(home: Path, text: str) -> Path:
    """Write `driftline.toml`."""
    (home / "driftline.toml").write_text(text)
    return home


def test_without_settings_everything_lies_under_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environ({})
    home = tmp_path / "driftline-home"
    assert settings.home == home
    assert settings.bus == f"sqlite:///{home}/bus.sqlite"
    assert settings.ledger == f"sqlite:///{home}/ledger.sqlite"
    assert settings.store == f"file://{home}/objects"


def test_a_child_process_gets_the_same_settings() -> None:
    settings = Settings.from_environ(
        {"DRIFTLINE_HOME": "/srv/line", "DRIFTLINE_BUS": "kafka://host:9092", "PATH": "/bin"}
    )
    assert Settings.from_environ(settings.environ()) == settings
    assert settings.bus == "kafka://host:9092"


def test_where_a_process_tells_its_health_is_its_own() -> None:
    settings = Settings.from_environ({"DRIFTLINE_HEALTH": "127.0.0.1:9100"})
    assert settings.health == "127.0.0.1:9100"
    assert "DRIFTLINE_HEALTH" not in settings.environ()
    assert Settings.from_environ({"DRIFTLINE_HEALTH": ""}).health is None


@pytest.mark.parametrize("known", KNOWN_VARIABLES)
def test_a_misspelt_variable_names_the_nearest(known: str) -> None:
    misspelt = known[:-2] + known[-1] + known[-2]
    with pytest.raises(InvalidInput, match=rf"unknown variable {misspelt}; did you mean {known}\?"):
        Settings.from_environ({misspelt: "x"})


@pytest.mark.parametrize("text", ["", "2GB", "-1", "0", "1.5", "\u0661"])
def test_a_memory_that_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"DRIFTLINE_MODEL_MEMORY is .*; give a number of bytes above 0, such as 2147483648"
    ):
        Settings.from_environ({"DRIFTLINE_MODEL_MEMORY": text})
    assert Settings.from_environ({"DRIFTLINE_MODEL_MEMORY": "1000"}).model_memory == 1000


def test_other_programs_variables_are_no_concern_of_ours() -> None:
    Settings.from_environ({"DRIFT": "x", "XDRIFTLINE_HOME": "y", "driftline_home": "z"})


def test_a_line_nobody_described_has_the_defaults(tmp_path: Path) -> None:
    lines = load_lines(write(tmp_path, '[lines."press-4/door"]\nbank = 2000\nauto = false\n'))
    assert line_config(lines, "press-4/door") == LineConfig(bank=2000, auto=False)
    assert line_config(lines, "other") == LineConfig()


def test_a_line_may_have_a_deadline_above_zero(tmp_path: Path) -> None:
    lines = load_lines(write(tmp_path, "[lines.tiles]\ndeadline_ms = 250\n"))
    assert (line_config(lines, "tiles").deadline_ms, line_config(lines, "other").deadline_ms) == (250.0, None)
    with pytest.raises(InvalidInput, match=r"driftline\.toml: Expected `float` > 0"):
        load_lines(write(tmp_path, "[lines.tiles]\ndeadline_ms = 0\n"))


def test_a_line_says_in_which_order_its_backlog_drains(tmp_path: Path) -> None:
    lines = load_lines(write(tmp_path, '[lines.tiles]\nbacklog = "newest-first"\n'))
    assert (line_config(lines, "tiles").backlog, line_config(lines, "other").backlog) == (
        "newest-first",
        "oldest-first",
    )
    with pytest.raises(InvalidInput, match=r"driftline\.toml: Invalid enum value 'newest'"):
        load_lines(write(tmp_path, '[lines.tiles]\nbacklog = "newest"\n'))


@pytest.mark.parametrize("known", LineConfig.__struct_fields__)
def test_a_misspelt_key_of_a_line_names_the_nearest(tmp_path: Path, known: str) -> None:
    misspelt = known[:-2] + known[-1] + known[-2]
    if misspelt == known:
        misspelt = known + "x"
    with pytest.raises(InvalidInput, match=rf"line 'tiles'.*unknown key '{misspelt}'; did you mean '{known}'\?"):
        load_lines(write(tmp_path, f"[lines.tiles]\n{misspelt} = 1\n"))


def test_a_misspelt_table_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"unknown key 'line'; did you mean 'lines'\?"):
        load_lines(write(tmp_path, "[line.tiles]\nbank = 2000\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[lines.tiles]\nbank = 'many'\n", r"Expected `int`, got `str`.*\$\.lines"),
        ("lines = 3\n", r"Expected `object`, got `int`"),
        ("[lines]\ntiles = 3\n", r"Expected `object`, got `int`"),
        ("[lines.tiles\n", r"Expected '\]'"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=rf"driftline\.toml: .*{says}"):
        load_lines(write(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "driftline.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"driftline\.toml"):
        load_lines(tmp_path)


def test_a_schedule_that_is_none_names_the_line_and_shows_one(tmp_path: Path) -> None:
    lines = load_lines(write(tmp_path, '[lines.tiles]\nschedule = "30 2 * * *"\n'))
    assert lines["tiles"].schedule == "30 2 * * *"
    says = (
        r"driftline\.toml: line 'tiles': schedule '61 \* \* \* \*' is no cron expression: bad minute; .*'0 3 \* \* MON'"
    )
    with pytest.raises(InvalidInput, match=says):
        load_lines(write(tmp_path, '[lines.tiles]\nschedule = "61 * * * *"\n'))
