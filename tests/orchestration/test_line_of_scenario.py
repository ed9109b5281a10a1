"""How a scenario's line is run: its [config], its [model], and a first model after its first phase."""

from pathlib import Path

from orchestration.replay import line_of, write_line
from streams.scenario import parse_scenario
from streams.settings import LineConfig, Settings, load_lines

PHASE = """
[[phase]]
name = "first"
images = 30
good = ["*.txt"]
"""


def config_of(folder: Path, head: str) -> LineConfig:
    (folder / "a.txt").touch()
    return line_of(parse_scenario(f'line = "tiles"\n{head}\n{PHASE}', path=folder / "s.toml", environ={}))


def test_without_tables_a_line_has_the_defaults_and_a_cold_start_after_its_first_phase(tmp_path: Path) -> None:
    assert config_of(tmp_path, "") == LineConfig(cold_start_images=30)


def test_both_tables_count(tmp_path: Path) -> None:
    head = "[model]\nimage_size = 64\n[config]\nretrain_images = 40\ncold_start_images = 20\nlayers = ['layer2']"
    expected = LineConfig(image_size=64, retrain_images=40, cold_start_images=20, layers=("layer2",))
    assert config_of(tmp_path, head) == expected


def test_the_installation_reads_what_the_scenario_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[config]\npromotion = 'approval'\ncrop = [0.0, 0.5, 1.0, 1.0]")
    write_line(Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)}), "tiles", config)
    assert load_lines(tmp_path) == {"tiles": config}
