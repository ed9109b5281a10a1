"""What people say of parts reaches the next model: normal parts are learnt, defective ones never are."""

import pytest

from orchestration.material import DEFECT_BY_A_PERSON
from tests.orchestration.retraining import LINE, RetrainedLine

HARMLESS, DEFECT = "stain", "plugged"
GOOD = range(40)
ODD, NEW = 50, 60


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> RetrainedLine:
    """A line with a first, blind model that has flagged a harmless mark on part 50."""
    made = RetrainedLine(tmp_path_factory.mktemp("line"))
    made.retrain("cold_start", "blind", made.send_good(GOOD))
    odd = made.parts.image(ODD, defect=HARMLESS)
    made.send("odd", odd)
    assert made.judge("odd", odd, at=1.0).flagged, "or there is nothing to correct"
    return made


def test_a_part_called_normal_is_not_flagged_after_the_next_refresh_and_real_defects_still_are(
    line: RetrainedLine,
) -> None:
    line.say("odd", "normal", at=2.0)
    window = line.send_good(range(100, 130))
    model = line.retrain("reviews", "refresh", window)
    threshold = model.threshold.value
    (odd,) = model.score([line.parts.image(ODD, defect=HARMLESS)])
    assert odd.peak <= threshold
    scores = model.score([line.parts.image(number, defect=DEFECT) for number in range(NEW, NEW + 10)])
    assert sum(score.peak > threshold for score in scores) >= 8
    manifest = line.registry.manifest(LINE, line.registry.pointers(LINE).champion or 0)
    assert "images/odd.png" in manifest.training_keys
    assert set(line.send_good(GOOD)) & set(manifest.training_keys), "a refresh takes old normals along"


def test_a_part_called_defective_is_in_no_training_set_even_when_that_is_said_afterwards(line: RetrainedLine) -> None:
    window = line.send_good(range(200, 230))
    bad = line.parts.image(231, defect=DEFECT)
    window = (*window, line.send("bad", bad))
    line.judge("bad", bad, at=5.0)
    line.retrain("manual", "blind", window)
    learnt = line.ledger.training_images(LINE, ["images/bad.png"])
    assert [each.version for each in learnt] == [line.registry.pointers(LINE).champion]
    line.say("bad", "defect", at=6.0)
    for mode in ("blind", "refresh"):
        chosen = line.ask("manual", mode, window).choose()
        assert "images/bad.png" not in (*chosen.fit, *chosen.held_out)
        assert chosen.left_out["images/bad.png"] == DEFECT_BY_A_PERSON
    assert line.ledger.training_images(LINE, ["images/bad.png"]) == learnt, "the version that had learnt it is known"
