"""The scenario file and its plan: the contract of cli.md, by its own words."""

import csv
import os
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

import pytest

from detectors.errors import InvalidInput, NotYet
from streams.perturbation import Perturbation
from streams.scenario import FIRST_GOOD, PlannedImage, Scenario, load_scenario, plan

SCENARIOS = Path(__file__).parents[1] / "scenarios"

EVERY_KEY = """
line = "tiles"
seed = 7
rate = 10
root = "$DATA/set"
start = "trusted"
[trusted]
images = ["good/a*.jpg"]
[model]
detector = "patchcore"
backbone = "resnet18"
weights = "$DATA/weights.pth"
image_size = 224
bank = 2000
runtime = "torch"
device = "cpu"
seed = 3
memory = 4000000000
[[phase]]
name = "steady"
good = ["good/*.jpg", "@lists/more.txt"]
bad = ["bad/*.jpg"]
bad_rate = 0.25
images = 40
settle = true
light = 1.1
gamma = 0.9
blur_px = 0.5
noise = 1
shift_px = -2
rotate_deg = 1.5
smudge = 0.1
blank = false
jitter = 0.3
ramp = false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [f"set/good/{letter}{n}.jpg" for letter in "ab" for n in range(6)] + ["set/more/m.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set/bad").mkdir()
    for n in range(3):
        (tmp_path / f"set/bad/{n}.jpg").touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/more.txt").write_text("# a comment\nmore/m.jpg\n\ngood/a0.jpg\n")
    (tmp_path / "lists/empty.txt").write_text("\n")
    (tmp_path / "lists/wrong.txt").write_text("more/nowhere.jpg\n")
    return tmp_path


def _load(folder: Path, text: str) -> Scenario:
    (folder / "s.toml").write_text(text)
    return load_scenario(folder / "s.toml", environ={"DATA": str(folder)})


def _phase(folder: Path, extra: str = "", *, head: str = "", images: int = 10) -> Scenario:
    good = "" if extra.startswith("good =") else 'good = ["good/*.jpg"]'
    return _load(folder, f'line = "l"\nroot = "set"\n{head}\n[[phase]]\nname = "p"\nimages = {images}\n{good}\n{extra}')


def test_every_key_of_the_contract_is_read(folder: Path) -> None:
    scenario = _load(folder, EVERY_KEY)
    (phase,) = scenario.phases
    assert (scenario.name, scenario.line, scenario.seed, scenario.rate, scenario.start) == (
        "s",
        "tiles",
        7,
        10.0,
        "trusted",
    )
    assert scenario.root == folder / "set"
    assert [path.name for path in scenario.trusted] == [f"a{n}.jpg" for n in range(6)]
    assert scenario.model.weights == f"{folder}/weights.pth"
    assert (scenario.model.detector, scenario.model.image_size, scenario.model.memory) == (
        "patchcore",
        224,
        4_000_000_000,
    )
    assert [path.name for path in phase.good] == [f"{letter}{n}.jpg" for letter in "ab" for n in range(6)] + ["m.jpg"]
    assert phase.settle
    assert phase.bad_images == 10
    assert phase.perturbation == Perturbation(
        light=1.1, gamma=0.9, blur_px=0.5, noise=1.0, shift_px=-2, rotate_deg=1.5, smudge=0.1, jitter=0.3
    )


def test_what_is_left_out_has_the_documented_default(folder: Path) -> None:
    scenario = _phase(folder)
    assert (scenario.seed, scenario.rate, scenario.start, scenario.trusted) == (0, 0.0, "blind", ())
    assert scenario.model.detector is None
    assert scenario.phases[0].perturbation.is_identity
    assert not scenario.phases[0].settle
    assert _load(folder, """line = "l"\n[[phase]]\nname = "p"\nimages = 1\ngood = ["set/good/*"]""").root == folder


@pytest.mark.parametrize(
    ("old", "new", "nearest"),
    [
        ("seed = 7", "sead = 7", "seed"),
        ("[trusted]\nimages", "[trusted]\nimage", "images"),
        ("backbone =", "backbon =", "backbone"),
        ("bad_rate = 0.25", "badrate = 0.25", "bad_rate"),
        ("blur_px", "blur", "blur_px"),
        ("[trusted]", "[trustd]", "trusted"),
    ],
)
def test_an_unknown_key_at_any_level_names_the_nearest(folder: Path, old: str, new: str, nearest: str) -> None:
    assert old in EVERY_KEY
    with pytest.raises(InvalidInput, match=rf"s\.toml: unknown key .* did you mean '{nearest}'"):
        _load(folder, EVERY_KEY.replace(old, new, 1))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("bad_rate = 1.5", r"phase\[0\].bad_rate = 1.5.*<= 1.0"),
        ("settle = 1", r"phase\[0\].settle = 1.*bool"),
        ("light = -1", r"phase 'p': light = -1.*0\.\.20"),
        ("light = nan", "light = nan.*finite"),
        ("bad_rate = 0.5", "bad_rate = 0.5.*`bad` names no image"),
        ('good = ["nothing/*.jpg"]', r"glob 'nothing/\*.jpg' finds no file"),
        ('good = [""]', "an empty glob"),
        ('good = ["@lists/empty.txt"]', "empty.txt is empty"),
        ('good = ["@lists/wrong.txt"]', "nowhere.jpg, named in wrong.txt"),
        ('good = ["@lists/none.txt"]', "none.txt cannot be read"),
        ('good = ["$NOWHERE/*.jpg"]', "variable NOWHERE is not set"),
        ("good = []", "`good` names none"),
    ],
)
def test_wrong_values_say_value_limit_and_cure(folder: Path, extra: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        _phase(folder, extra)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ('start = "warm"', "start = 'warm'"),
        ('start = "trusted"', "names none"),
        ("rate = -1", "rate = -1.*>= 0"),
        ("seed = 1.5", "seed = 1.5"),
        ('[model]\ndetector = "yolo"', "model.detector = 'yolo'"),
        ("nonsense", "not TOML"),
    ],
)
def test_wrong_heads_are_refused(folder: Path, head: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        _phase(folder, head=head)


def test_an_unset_root_variable_says_so(folder: Path) -> None:
    (folder / "s.toml").write_text(EVERY_KEY)
    with pytest.raises(InvalidInput, match="DATA is not set"):
        load_scenario(folder / "s.toml", environ={})


def test_files_that_are_none(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.toml cannot be read"):
        load_scenario(folder / "gone.toml", environ={})
    with pytest.raises(InvalidInput, match="no folder"):
        _load(folder, 'line = "l"\nroot = "gone"\n[[phase]]\nname = "p"\nimages = 1')
    with pytest.raises(InvalidInput, match="`line` is missing"):
        _load(folder, '[[phase]]\nname = "p"\nimages = 1')
    with pytest.raises(NotYet, match="several lines"):
        _load(folder, 'lines = ["a"]\n[[phase]]\nname = "p"\nimages = 1')


def test_a_line_may_not_be_called_anything(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="tiles"):
        _load(folder, EVERY_KEY.replace('"tiles"', '"../tiles"'))


def test_two_phases_of_one_name_are_refused(folder: Path) -> None:
    again = '[[phase]]\nname = "p"\nimages = 1\ngood = ["good/*"]'
    with pytest.raises(InvalidInput, match="two phases are called 'p'"):
        _phase(folder, again)


def test_the_plan_follows_from_the_seed(folder: Path) -> None:
    text = EVERY_KEY.replace("images = 40", "images = 37")
    first, again = list(plan(_load(folder, text))), list(plan(_load(folder, text)))
    other = list(plan(_load(folder, text.replace("seed = 7", "seed = 8", 1))))
    assert first == again
    assert [image.path for image in first] != [image.path for image in other]
    assert [image.bad for image in first] != [image.bad for image in other]


def test_images_are_drawn_without_replacement_then_round_again(folder: Path) -> None:
    images = list(plan(_load(folder, EVERY_KEY)))  # 30 good of 13, 10 bad of 3
    for bad, size in ((False, 13), (True, 3)):
        drawn = [image.path for image in images if image.bad is bad]
        for start in range(0, len(drawn) - size, size):
            assert len(set(drawn[start : start + size])) == size
        assert drawn[size : 2 * size] == drawn[:size]


@pytest.mark.parametrize(
    ("images", "rate", "bad"), [(150, 0.05, 8), (280, 0.03, 8), (160, 0.03, 5), (10, 1.0, 10), (7, 0.0, 0)]
)
def test_exactly_the_stated_share_is_bad(folder: Path, images: int, rate: float, bad: int) -> None:
    planned = list(plan(_phase(folder, f'bad = ["bad/*"]\nbad_rate = {rate}', images=images)))
    assert len(planned) == images
    assert sum(image.bad for image in planned) == bad
    assert all(image.bad == (image.path.parent.name == "bad") for image in planned)


def test_no_bad_image_among_the_first(folder: Path) -> None:
    for seed in range(30):
        planned = list(plan(_phase(folder, 'bad = ["bad/*"]\nbad_rate = 0.5', head=f"seed = {seed}", images=20)))
        assert not any(image.bad for image in planned[:FIRST_GOOD])


def test_ids_are_unique_and_readable(folder: Path) -> None:
    planned = list(plan(_load(folder, EVERY_KEY + '[[phase]]\nname = "after"\nimages = 5\ngood = ["good/*"]')))
    ids = [image.image_id for image in planned]
    assert len(set(ids)) == 45
    assert ids[7] == "steady-0007"
    assert ids[-1] == "after-0004"
    assert len({image.seed for image in planned}) == 45


def test_a_ramp_goes_linearly_from_the_previous_phase(folder: Path) -> None:
    ramp = '[[phase]]\nname = "r"\nramp = true\nimages = 4\nlight = 2.0\ngood = ["good/*"]'
    after = '[[phase]]\nname = "s"\nimages = 2\ngood = ["good/*"]'
    planned = list(plan(_phase(folder, f"light = 1.2\n{ramp}\n{after}")))
    assert [image.perturbation.light for image in planned if image.phase == "r"] == pytest.approx([1.4, 1.6, 1.8, 2.0])
    assert all(image.perturbation.is_identity for image in planned if image.phase == "s")


# The scenarios of the repository, on the real data.


def _data() -> Path:
    data = os.environ.get("DRIFTLINE_TEST_DATA")
    if data is None:
        pytest.skip("set DRIFTLINE_TEST_DATA to the folder of test images")
    return Path(data)


def _planned(name: str) -> list[PlannedImage]:
    return list(plan(load_scenario(SCENARIOS / name, environ={"DRIFTLINE_TEST_DATA": str(_data())})))


def test_the_lists_are_what_the_script_makes_of_the_index() -> None:
    spec = spec_from_file_location("make_lists", SCENARIOS / "make_lists.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    made = {name: "\n".join(paths) + "\n" for name, paths in module.lists(_data()).items()}
    assert made == {path.name: path.read_text() for path in (SCENARIOS / "lists").glob("*.txt")}


def _index() -> dict[Path, dict[str, str]]:
    base = _data() / "magnetic_tile"
    with (base / "index.csv").open(newline="") as file:
        return {base / row["path"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("name", "changes"), [("day_night.toml", 10), ("lamp_flickers.toml", 4)])
def test_lines_that_go_to_and_fro_judge_no_tile_by_a_version_that_learnt_it(name: str, changes: int) -> None:
    """What versions are made of, as far as all goes well: the first phase, and the first that settles after it."""
    rows, images = _index(), _planned(name)
    phases = list(dict.fromkeys(image.phase for image in images))
    tiles = {phase: {rows[each.path]["tile_id"] for each in images if each.phase == phase} for phase in phases}
    light = {phase: phase.partition("-")[0] for phase in phases}
    assert len(phases) - 2 == changes
    assert not any(
        tiles["bootstrap"] & tiles[phase] for phase in phases if light[phase] != "night" and phase != "bootstrap"
    )
    if "night-1" in phases:
        assert not any(tiles["night-1"] & tiles[phase] for phase in phases[3:] if light[phase] == "night")


@pytest.mark.parametrize("name", ["magnetic_tile_step.toml", "magnetic_tile_step_mirror.toml"])
def test_no_tile_is_trained_on_and_judged_by(name: str) -> None:
    rows = _index()
    tiles: dict[str, set[str]] = {}
    for image in _planned(name):
        row = rows[image.path]
        assert row["type"] != "uneven"
        assert image.bad == (row["label"] == "defect")
        tiles.setdefault(image.phase, set()).add(row["tile_id"])
    for phase, after in pairwise(["bootstrap", "steady"]):
        assert not tiles[phase] & tiles[after]
    assert not tiles["bootstrap"] & tiles["step"]
    assert not tiles["step"] & tiles["after"]


def test_the_main_scenario_is_as_the_issue_says() -> None:
    rows, images = _index(), _planned("magnetic_tile_step.toml")
    assert Counter(image.phase for image in images) == {"bootstrap": 150, "steady": 280, "step": 150, "after": 160}
    assert Counter(image.phase for image in images if image.bad) == {"bootstrap": 8, "steady": 8, "step": 4, "after": 5}
    for phase, exposures in {"bootstrap": "12", "steady": "12", "step": "56", "after": "56"}.items():
        assert {rows[image.path]["exposure"] for image in images if image.phase == phase} == set(exposures)
    for phase in ("bootstrap", "step", "after"):
        paths = [image.path for image in images if image.phase == phase]
        assert len(set(paths)) == len(paths)
    assert {image.perturbation.is_identity for image in images if image.phase != "steady"} == {True}
    step = [image.index for image in images if image.phase == "step" and image.bad]
    assert max(step) - min(step) > 75


def test_how_the_line_is_run_is_said_in_config_and_misspelt_keys_name_the_nearest(folder: Path) -> None:
    text = EVERY_KEY + "\n[config]\ncooldown_s = 5\nretrain_mode = 'refresh'\n"
    assert dict(_load(folder, text).config) == {"cooldown_s": 5, "retrain_mode": "refresh"}
    with pytest.raises(InvalidInput, match=r"unknown key 'cooldwn_s' in \[config\]; did you mean 'cooldown_s'"):
        _load(folder, text.replace("cooldown_s", "cooldwn_s"))
    with pytest.raises(InvalidInput, match=r"config.retrain_mode = 'fresh'"):
        _load(folder, text.replace("'refresh'", "'fresh'"))
