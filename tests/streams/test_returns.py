"""A version that comes back: its watch begins with its return, whatever became of its first service. Virtual time, a real ledger."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from streams import epochs
from streams.epochs import BEGINNING
from streams.ledger import Ledger
from streams.messages import DriftIncident, Message, ModelPromoted, RetrainRequest, Verdict
from streams.resuming import SinceReturn, is_over
from streams.settings import LineConfig
from streams.stored_calibration import calibrated
from streams.watching import WatchHandler, recorded_in
from tests.streams.test_restarts import what_is
from tests.streams.test_watching import promoted, reference, take, verdicts

CONFIG = LineConfig(retrain_images=20, cooldown_s=60.0)
KEPT = {
    version: msgspec.Raw(msgspec.json.encode(calibrated(reference(version=version), seed=CONFIG.seed)))
    for version in (1, 2)
}
PROMOTIONS = (
    promoted(1, sequence=1, at=0.0),
    promoted(2, sequence=2, at=160.5, previous=1),
    promoted(1, sequence=3, at=300.5, previous=2),
)
FIRST_SERVICE = verdicts(0, 100) + verdicts(100, 61, bulk=3.0)
BETWEEN = verdicts(161, 140, version=2)
SECOND_SERVICE = verdicts(301, 150)
LIFE: Sequence[Message] = (
    PROMOTIONS[0], *FIRST_SERVICE, PROMOTIONS[1], *BETWEEN, PROMOTIONS[2], *SECOND_SERVICE, *verdicts(451, 40, bulk=3.0),
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def watcher_of(ledger: Ledger) -> WatchHandler:
    return WatchHandler(
        reference,
        lambda _: CONFIG,
        lambda: 1e9,
        history=ledger,
        recorded=recorded_in(ledger),
        calibrations=lambda _, version: KEPT[version],
    )


def live(ledger: Ledger, coming: Sequence[Message], *, restarts: Sequence[int] = ()) -> WatchHandler:
    """A watcher after these messages, one by one, restarted before some of them; the recorder is only quick enough for a restart."""
    watcher, unwritten = watcher_of(ledger), list[Message]()
    for number, each in enumerate(coming):
        if number in restarts:
            ledger.record(unwritten)
            watcher, unwritten = watcher_of(ledger), []
        unwritten += [each, *take(watcher, [each])]
        if isinstance(each, ModelPromoted):
            ledger.record([message for message in unwritten if isinstance(message, RetrainRequest)])
            end_requests(ledger, each)
    ledger.record(unwritten)
    return watcher


def end_requests(ledger: Ledger, promotion: ModelPromoted) -> None:
    for row in ledger.requests("tiles", states=("open",)):
        request_id, at = row.request.request_id, promotion.at
        ledger.end_request(request_id, outcome="promoted", version=promotion.version, detail="", at=at)


def of_return(ledger: Ledger) -> list[str]:
    """Ids of the images that alarmed since the return."""
    return [each.alarm_image_id for each in ledger.incidents("tiles") if each.at > PROMOTIONS[2].at]


def test_the_watch_of_a_version_that_came_back_is_that_of_a_new_one(ledger: Ledger, tmp_path: Path) -> None:
    after_all = live(ledger, LIFE)
    fresh = Ledger.open(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    anew = live(fresh, [promoted(1, sequence=1, at=300.5), *LIFE[LIFE.index(PROMOTIONS[2]) + 1 :]])
    one, two = after_all.monitor("tiles"), anew.monitor("tiles")
    assert one
    assert two
    assert one.state == two.state
    assert one.state.judged == 190
    assert after_all.state("tiles").version == 1
    (incident,) = of_return(ledger)
    assert incident == fresh.incidents("tiles")[0].alarm_image_id
    assert int(incident.removeprefix("tiles-")) > 450


def test_a_restart_anywhere_makes_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    once = live(ledger, LIFE)
    came_back = LIFE.index(PROMOTIONS[2])
    for restart in (came_back - 1, came_back, came_back + 1, came_back + 60, len(LIFE) - 20):
        other = Ledger.open(f"sqlite:///{tmp_path / f'restarted-{restart}.sqlite'}")
        restarted = live(other, LIFE, restarts=[restart])
        assert what_is(restarted) == what_is(once), restart
        assert of_return(other) == of_return(ledger)


def test_a_restart_after_an_epoch_of_the_second_service_looks_back_no_further(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "EPOCH", 60)
    once = live(ledger, LIFE)
    restarted = watcher_of(ledger)
    take(restarted, LIFE[-1:])
    one, two = restarted.monitor("tiles"), once.monitor("tiles")
    assert one
    assert two
    assert one.state == two.state


def test_a_recorder_that_lags_behind_the_return_raises_no_old_incident(ledger: Ledger) -> None:
    ledger.record([PROMOTIONS[0], *FIRST_SERVICE, PROMOTIONS[1], *BETWEEN])
    watcher = live(ledger, [PROMOTIONS[2], *SECOND_SERVICE[:5]])
    assert watcher.state("tiles").incidents == ()
    monitor = watcher.monitor("tiles")
    assert monitor
    assert monitor.state.judged == 5


def test_stragglers_of_the_replaced_version_do_not_take_the_line_over_after_a_restart(ledger: Ledger) -> None:
    ledger.record(LIFE)
    watcher = watcher_of(ledger)
    stragglers = verdicts(700, 5, version=2)
    take(watcher, [*stragglers, LIFE[-1], *stragglers, *verdicts(800, 3)])
    assert watcher.state("tiles").version == 1
    monitor = watcher.monitor("tiles")
    assert monitor
    assert monitor.state.judged == 190 + 3


def test_verdicts_of_the_first_service_that_come_again_are_not_watched(ledger: Ledger) -> None:
    ledger.record(LIFE[:-40])
    watcher = watcher_of(ledger)
    assert take(watcher, [*FIRST_SERVICE, *SECOND_SERVICE[-1:], *FIRST_SERVICE]) == []
    monitor = watcher.monitor("tiles")
    assert monitor
    assert monitor.state.judged == len(SECOND_SERVICE)


def test_a_version_with_a_higher_number_comes_back_too(ledger: Ledger) -> None:
    again = promoted(2, sequence=4, at=500.5, previous=1)
    watcher = live(ledger, [*LIFE, *verdicts(491, 3, version=2), again, *verdicts(501, 7, version=2)])
    assert watcher.state("tiles").version == 2
    monitor = watcher.monitor("tiles")
    assert monitor
    assert monitor.state.judged == 7


def test_a_lamp_that_flickers_asks_for_nothing_and_its_incident_closes_by_itself(ledger: Ledger) -> None:
    for lasted in (12, CONFIG.retrain_images - 1):
        flicker = [*verdicts(0, 100), *verdicts(100, lasted, bulk=3.0), *verdicts(100 + lasted, 230)]
        said = take(watcher_of(ledger), flicker)
        assert [each.state for each in said if isinstance(each, DriftIncident)] == ["opened", "closed"]
        assert not any(isinstance(each, RetrainRequest) for each in said)


def test_a_lamp_that_flickers_again_and_again_asks_for_nothing_and_when_it_stays_with_its_own_images(
    ledger: Ledger,
) -> None:
    flickers = [
        each for start in range(100, 400, 60) for each in (*verdicts(start, 15, bulk=3.0), *verdicts(start + 15, 45))
    ]
    watcher = watcher_of(ledger)
    said = take(watcher, [*verdicts(0, 100), *flickers])
    assert not any(isinstance(each, RetrainRequest) for each in said)
    (request,) = [each for each in take(watcher, verdicts(400, 60, bulk=3.0)) if isinstance(each, RetrainRequest)]
    first = int(request.image_keys[0].removeprefix("images/tiles/").removesuffix(".png"))
    assert first >= 398


def test_the_history_since_a_return_is_cut_there(ledger: Ledger) -> None:
    ledger.record(LIFE)
    history = SinceReturn(ledger, PROMOTIONS[2].at)
    end = (1e6, "")
    assert [each.judged_at for each in history.history("tiles", 1, since=BEGINNING, before=(303.0, ""))] == [
        301.0,
        302.0,
    ]
    assert history.judged_before("tiles", 1, (303.0, "")) == 2
    assert history.judged_before("tiles", 1, (50.0, "")) == 0
    assert [at for at, _ in history.images_before("tiles", 1, end)][-1] == 301.0
    assert isinstance(history.verdict("tiles", "tiles-5"), Verdict)


def test_what_is_over_is_what_was_replaced() -> None:
    def over(version: int, *promotions: ModelPromoted) -> bool:
        return is_over(promotions, version)

    assert not over(1)
    assert not over(1, *PROMOTIONS)
    assert over(2, *PROMOTIONS)
    assert not over(3, *PROMOTIONS), "the ledger has not heard of it yet"
    assert over(1, promoted(2, sequence=2, at=1.0, previous=1)), "its own promotion was never told"
