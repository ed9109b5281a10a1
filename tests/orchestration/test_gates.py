"""Each gate passes a sound candidate and refuses one made worse on purpose, through data or configuration, with small real models."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from detectors.errors import Unavailable
from detectors.extractors import ExtractorCache
from detectors.images import Image
from orchestration import gates
from orchestration.checks import gate_checks
from orchestration.evidence import Evidence, drawn_defects
from orchestration.gate_list import GATE_DESCRIPTIONS
from orchestration.gates import GATES, judge
from orchestration.judgement import Judgement
from streams.settings import LineConfig
from tests.orchestration.gate_line import CHANGED_AT, CONFIG, GateLine, incident, part, request, verdict_of

NORMALS = [part(number) for number in range(24)]
DARK = 0.55
GATE_NAMES = tuple(GATE_DESCRIPTIONS)
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def extractors() -> ExtractorCache:
    return ExtractorCache()


@pytest.fixture
def line(tmp_path: Path, extractors: ExtractorCache) -> GateLine:
    return GateLine(tmp_path, extractors)


class Models:
    """Models of images, each made once for all tests."""

    def __init__(self, line: GateLine) -> None:
        self._line = line
        self.champion = self.of([part(number) for number in range(100, 124)], request_id="older")
        self.sound = self.of(NORMALS)

    def of(self, images: Sequence[Image], config: LineConfig = CONFIG, *, request_id: str = "r") -> Files:
        return self._line.packed(images, config, of=request_id)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, extractors: ExtractorCache) -> Models:
    return Models(GateLine(tmp_path_factory.mktemp("models"), extractors))


@pytest.fixture(scope="module")
def dark(models: Models) -> Files:
    """A model of another light than the line's."""
    return models.of([part(number, light=DARK) for number in range(24)])


def review_some(line: GateLine, *, defects: int = 12, normals: int = 12, at: float = 500.0) -> None:
    """Reviewed scratches and normal parts, judged one a second from `at` on."""
    for number in range(defects):
        line.reviewed(part(300 + number, defect="scratch"), f"bad-{at}-{number}", "defect", at=at + number)
    for number in range(normals):
        line.reviewed(part(400 + number), f"good-{at}-{number}", "normal", at=at + number)


def asked(gate: str, evidence: Evidence) -> Judgement:
    return judge(gate, lambda: evidence)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, extractors: ExtractorCache, models: Models) -> Evidence:
    line = GateLine(tmp_path_factory.mktemp("sound"), extractors)
    review_some(line)
    return line.evidence(line.contenders(models.sound, models.champion), request())


@pytest.mark.parametrize("gate", GATE_NAMES)
def test_a_sound_candidate_passes(sound: Evidence, gate: str) -> None:
    result = asked(gate, sound)
    assert result.passed, result.words
    assert result.name == gate
    assert result.words


def test_each_gate_is_a_blocking_check_with_its_description() -> None:
    of_gates = {each.__name__ for each in vars(gates).values() if getattr(each, "__name__", "") in GATES}
    assert of_gates == set(GATES) == set(GATE_DESCRIPTIONS)
    specs = [spec for each in gate_checks for spec in each.check_specs]
    assert {spec.name: spec.description for spec in specs} == dict(GATE_DESCRIPTIONS)
    assert all(spec.blocking for spec in specs)


def test_a_candidate_that_is_the_champion_once_more_is_refused(line: GateLine, models: Models) -> None:
    again = models.of(NORMALS, request_id="another")
    result = asked("differs_from_champion", line.evidence(line.contenders(again, models.sound), request()))
    assert not result.passed
    assert "nothing would change" in result.words
    of_one_request = line.evidence(line.contenders(models.sound, models.sound), request())
    assert asked("differs_from_champion", of_one_request).passed


def test_a_threshold_calibrated_in_another_light_is_refused(line: GateLine, models: Models, dark: Files) -> None:
    review_some(line, defects=0)
    result = asked("threshold_holds", line.evidence(line.contenders(dark, models.champion), request()))
    assert not result.passed
    assert "10 of 10 held-out images flagged" in result.words
    assert "12 of 12 reviewed normals flagged (the champion flags 0)" in result.words
    assert "golden set 1: 0 defects, 12 normals" in result.words


def test_a_reference_of_another_light_is_refused(line: GateLine, models: Models, dark: Files) -> None:
    assert not asked("reference_holds", line.evidence(line.contenders(dark, models.champion), request())).passed


def test_a_model_of_too_few_images_to_watch_its_drift_by_is_refused(line: GateLine, models: Models) -> None:
    few = models.of(NORMALS[:9])
    result = asked("drift_can_be_watched", line.evidence(line.contenders(few, models.champion), request()))
    assert not result.passed
    assert (result.value, result.limit) == (9, 10)


def test_a_model_many_times_slower_than_the_champion_is_refused(line: GateLine, models: Models) -> None:
    slow = models.of(NORMALS[:6], msgspec.structs.replace(CONFIG, image_size=512))
    result = asked("latency_and_size", line.evidence(line.contenders(slow, models.champion), request()))
    assert not result.passed
    assert result.value > result.limit >= 50
    assert "the champion's is" in result.words


def test_a_model_fitted_on_a_window_of_40_percent_defects_is_refused(line: GateLine, models: Models) -> None:
    review_some(line)
    scratched = [part(number, defect="scratch") for number in range(600, 616)]
    poisoned = models.of([*NORMALS, *scratched], msgspec.structs.replace(CONFIG, bank=2000))
    result = asked("finds_known_defects", line.evidence(line.contenders(poisoned, models.champion), request()))
    assert not result.passed, result.words
    assert result.value < result.limit
    assert "12 reviewed defects" in result.words


def test_a_model_that_looks_at_a_corner_alone_is_refused(line: GateLine, models: Models) -> None:
    corner = models.of(NORMALS, msgspec.structs.replace(CONFIG, crop=(0.0, 0.0, 0.15, 0.15)))
    evidence = line.evidence(line.contenders(corner, None), request())
    result = asked("finds_drawn_defects", evidence)
    assert not result.passed
    assert result.value < 0.6
    estimated = asked("finds_known_defects", evidence)
    assert not estimated.passed
    assert "recall is an estimate" in estimated.words


def test_a_candidate_that_judges_unchanged_images_otherwise_is_refused(
    line: GateLine, models: Models, dark: Files
) -> None:
    contenders = line.contenders(dark, models.champion)
    result = asked("agrees_where_nothing_changed", line.evidence(contenders, request()))
    assert not result.passed
    assert "10 of 10 normal images judged otherwise" in result.words
    after_drift = line.evidence(contenders, request(cause="covariate_drift", incident_id="covariate_drift"))
    assert asked("agrees_where_nothing_changed", after_drift).passed


def test_not_to_flag_what_people_call_normal_is_no_disagreement(line: GateLine, models: Models, dark: Files) -> None:
    review_some(line, defects=0)
    evidence = line.evidence(line.contenders(models.sound, dark), request(), held_out=line.held_out()[:3])
    result = asked("agrees_where_nothing_changed", evidence)
    assert "3 of 15 normal images judged otherwise" in result.words


def test_a_candidate_made_while_defects_surged_is_refused(line: GateLine, models: Models) -> None:
    line.ledger.record([verdict_of("a", at=CHANGED_AT)])
    line.ledger.record([incident(kind, since="a", at=CHANGED_AT + 20) for kind in ("covariate_drift", "defect_surge")])
    drifted = request(cause="covariate_drift", incident_id="covariate_drift")
    result = asked("line_is_sound", line.evidence(line.contenders(models.sound, models.champion), drifted))
    assert not result.passed
    assert "defect_surge is open" in result.words


def test_defects_of_the_old_light_do_not_judge_a_model_of_the_new_one(line: GateLine, models: Models) -> None:
    review_some(line)
    line.ledger.record([verdict_of("a", at=CHANGED_AT), incident("covariate_drift", since="a", at=CHANGED_AT + 20)])
    contenders = line.contenders(models.sound, models.champion)
    drifted = request(cause="covariate_drift", incident_id="covariate_drift")
    estimated = asked("finds_known_defects", line.evidence(contenders, drifted))
    assert estimated.passed, estimated.words
    assert "recall is an estimate" in estimated.words
    assert "golden set 1: 12 defects, 12 normals, 0 of them judged since the change" in estimated.words
    review_some(line, defects=3, normals=2, at=CHANGED_AT + 50)
    known = asked("finds_known_defects", line.evidence(contenders, drifted))
    assert "of 3 reviewed defects of the line as it is now found" in known.words
    assert "golden set 2: 15 defects, 14 normals, 5 of them judged since the change" in known.words
    refreshed = msgspec.structs.replace(drifted, mode="refresh")
    assert len(line.evidence(contenders, refreshed).golden.defects) == 15


def test_no_image_that_was_learnt_judges(line: GateLine, models: Models) -> None:
    review_some(line, defects=2, normals=3)
    learnt = "images/test/2026/02/02/good-500.0-1.png"
    contenders = line.contenders(models.sound, models.champion)
    golden = line.evidence(contenders, request(), fit=[learnt]).golden
    assert sorted(key.rpartition("/")[2] for key in golden.normals) == ["good-500.0-0.png", "good-500.0-2.png"]
    assert "of these 1 learnt by the candidate" in golden.words


def test_a_held_out_image_that_people_call_defect_is_not_taken_for_a_normal_one(line: GateLine, models: Models) -> None:
    bad = line.reviewed(part(910, defect="scratch"), "bad", "defect", at=500.0)
    evidence = line.evidence(line.contenders(models.sound, None), request(), held_out=[*line.held_out(), bad])
    assert len(evidence.held_out) == 10
    assert list(evidence.golden.defects) == [bad]


@pytest.mark.parametrize("kind", ["nothing", "defects", "normals"])
def test_with_a_golden_set_that_is_empty_or_of_one_kind_defects_are_estimated_or_counted(
    line: GateLine, models: Models, kind: str
) -> None:
    review_some(line, defects=4 if kind == "defects" else 0, normals=4 if kind == "normals" else 0)
    evidence = line.evidence(line.contenders(models.sound, models.champion), request())
    result = asked("finds_known_defects", evidence)
    assert result.passed, result.words
    assert ("recall is an estimate" in result.words) == (kind != "defects")
    assert asked("threshold_holds", evidence).passed


def test_without_an_image_that_can_be_read_every_gate_that_needs_one_refuses_with_the_reason(
    line: GateLine, models: Models
) -> None:
    line.store.put("torn", b"\x89PNG")
    evidence = line.evidence(line.contenders(models.sound, models.champion), request(), held_out=["torn", "gone"])
    refused = {gate: result for gate in GATES if not (result := asked(gate, evidence)).passed}
    assert set(refused) == {
        "threshold_holds", "reference_holds", "latency_and_size", "finds_known_defects", "finds_drawn_defects",
        "agrees_where_nothing_changed",
    }  # fmt: skip
    for result in refused.values():
        assert "no held-out image can be judged (2 cannot be read; torn: " in result.words
        assert result.limit == 0.0


def test_a_candidate_whose_files_are_broken_fails_every_gate_in_words(line: GateLine, models: Models) -> None:
    broken = {**models.sound, "model.safetensors": b"torn"}
    for gate in GATES:
        result = judge(gate, lambda: line.evidence(line.contenders(broken, None), request()))
        assert not result.passed
        assert "cannot be evaluated, so the candidate is refused: ArtifactError: model.safetensors has" in result.words


def test_a_store_that_is_away_is_no_fault_of_the_candidate(line: GateLine, models: Models) -> None:
    review_some(line, defects=1, normals=0)
    held_out = line.held_out()
    (line.home / "objects").rename(line.home / "away")
    with pytest.raises(Unavailable):
        judge(
            "threshold_holds", lambda: line.evidence(line.contenders(models.sound, None), request(), held_out=held_out)
        )


def test_drawn_defects_are_the_same_for_everybody() -> None:
    images = {str(number): part(number) for number in range(4)}
    assert len(drawn_defects(images)) == 12
    for (key, one), (same, two) in zip(drawn_defects(images).items(), drawn_defects(images).items(), strict=True):
        assert key == same
        assert (one.image == two.image).all()
        assert one.mask_HW.any()
