"""The rendered line: the same everywhere, different from part to part, and no match for a look at the grey alone."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from detectors.errors import InvalidInput
from detectors.features import load_extractor
from detectors.images import decode, encode_png
from detectors.neighbours import NearestNeighbours
from streams.rendered import FEWEST_IMAGES, RenderedLine, scenario_for_folder, write_demo
from streams.rendered_defects import DEFECTS
from streams.scenario import parse_scenario, plan

GOOD, BAD = 60, 42


def _auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    """Share of pairs in the right order, by its definition on ranks."""
    ranks = rankdata(np.concatenate([good, bad]))[len(good) :]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad)))


@pytest.fixture(scope="module")
def line() -> RenderedLine:
    return RenderedLine(seed=11)


@pytest.fixture(scope="module")
def greys(line: RenderedLine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grey images: good ones, and as many of each kind of defect."""
    kinds = list(DEFECTS)
    good = [line.image(index).mean(axis=2) for index in range(GOOD)]
    bad = [line.image(1000 + index, defect=kinds[index % len(kinds)]).mean(axis=2) for index in range(BAD)]
    return np.array(good), np.array(bad)


def test_an_image_depends_on_seed_and_index_only(line: RenderedLine) -> None:
    line.image(5, defect="dent")
    np.testing.assert_array_equal(line.image(4), RenderedLine(seed=11).image(4))
    assert (line.image(4) != RenderedLine(seed=12).image(4)).any()
    assert (line.image(4) != line.image(5)).any()


@pytest.mark.parametrize("kind", list(DEFECTS))
def test_a_defect_changes_the_part_where_its_mask_says(line: RenderedLine, kind: str) -> None:
    for index in range(300, 306):
        good, (bad, mask) = line.image(index), line.image_and_mask(index, defect=kind)
        changed = np.abs(good.astype(int) - bad.astype(int)).max(axis=2) > 12
        near = ndimage.binary_dilation(mask, iterations=6)
        assert 20 < mask.sum() < 0.05 * mask.size, kind
        assert changed[mask].mean() > 0.15, "a defect that nobody can see"
        assert changed[~near].mean() < 0.001, "changed outside its mask"


def test_good_parts_have_no_mask(line: RenderedLine) -> None:
    assert not line.image_and_mask(3)[1].any()


def test_light_is_a_gain(line: RenderedLine) -> None:
    dark, bright = line.image(3).mean(), line.image(3, light=1.3).mean()
    assert bright / dark == pytest.approx(1.3, rel=0.03)


def test_an_unknown_defect_is_refused(line: RenderedLine) -> None:
    with pytest.raises(InvalidInput, match=r"'rust'.*scratch"):
        line.image(0, defect="rust")


def test_mean_grey_does_not_find_the_defects(greys: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    good, bad = (images.mean(axis=(1, 2)) for images in greys)
    middle = np.median(good)
    assert _auroc(np.abs(good - middle), np.abs(bad - middle)) < 0.7


@pytest.mark.parametrize("share", [None, 99.9, 100.0])
def test_difference_to_the_mean_image_does_not_find_the_defects(
    greys: tuple[NDArray[np.float64], NDArray[np.float64]], share: float | None
) -> None:
    """Neither the mean difference, nor the largest ones; the mean image is of other good parts than those judged."""
    good, bad = greys
    reference, judged = good[: GOOD // 2].mean(axis=0), good[GOOD // 2 :]

    def score(images: NDArray[np.float64]) -> NDArray[np.float64]:
        difference = np.abs(images - reference).reshape(len(images), -1)
        result: NDArray[np.float64] = difference.mean(1) if share is None else np.percentile(difference, share, axis=1)
        return result

    assert _auroc(score(judged), score(bad)) < 0.7


def test_patch_features_do_find_the_defects(line: RenderedLine) -> None:
    """The score is the largest distance of a patch to a random bank of normal patches, by its definition."""
    extractor, kinds = load_extractor(), list(DEFECTS)

    def patches(index: int, defect: str | None = None) -> NDArray[np.float32]:
        grid = extractor.extract([line.image(index, defect=defect)])
        return grid.reshape(-1, grid.shape[-1])

    normal = np.concatenate([patches(index) for index in range(32)])
    bank = NearestNeighbours(normal[np.random.default_rng(0).permutation(len(normal))[:4000]])

    def scores(indices: range, broken: bool) -> NDArray[np.float64]:
        parts = (patches(index, kinds[index % len(kinds)] if broken else None) for index in indices)
        return np.array([bank.search(part, 1)[0].max() for part in parts], float)

    assert _auroc(scores(range(500, 516), broken=False), scores(range(600, 621), broken=True)) > 0.9


# The demo's scenario.


def test_the_demo_is_a_scenario_whose_images_come_once(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    text = write_demo(tmp_path, seed=3, progress=lambda done, of: told.append((done, of)))
    scenario = parse_scenario(text, path=tmp_path / "demo.toml", environ={})
    planned = list(plan(scenario))
    assert [phase.name for phase in scenario.phases] == ["bootstrap", "steady", "step", "after"]
    assert len({image.path for image in planned}) == len(planned) == told[-1][0] == told[-1][1]
    assert sum(image.bad for image in planned) == sum(phase.bad_images for phase in scenario.phases) > 10
    assert scenario.start == "blind"
    assert [phase.perturbation.is_identity for phase in scenario.phases] == [True, True, False, False]
    assert len(planned) / scenario.rate < 120, "leave half of the four minutes to the two trainings"
    assert decode(planned[0].path.read_bytes()).shape == (320, 320, 3)


def _folder(folder: Path, images: int) -> Path:
    folder.mkdir()
    data = encode_png(np.full((8, 8, 3), 90, np.uint8))
    for number in range(images):
        (folder / f"part {number:03d} [a].png").write_bytes(data)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_of_ones_own_tells_the_same_story(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "own $1 [x] é", 50)
    scenario = parse_scenario(scenario_for_folder(folder), path=tmp_path / "demo.toml", environ={})
    drawn = {
        phase.name: {image.path for image in plan(scenario) if image.phase == phase.name} for phase in scenario.phases
    }
    assert drawn["bootstrap"] | drawn["step"] == {path for path in folder.iterdir() if path.suffix == ".png"}
    assert not drawn["bootstrap"] & drawn["steady"]
    assert not drawn["step"] & drawn["after"]
    assert [phase.images for phase in scenario.phases] == [25, 100, 100, 60]
    assert not any(image.bad or image.perturbation.is_identity for image in plan(scenario))


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"holds 3 images; the demo needs {FEWEST_IMAGES}"):
        scenario_for_folder(_folder(tmp_path / "few", 3))
