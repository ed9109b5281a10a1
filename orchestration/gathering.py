"""What the gates judge by, gathered: the images of a training set that were held out, the line's golden set, what changed the line."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from detectors.images import Image
from detectors.model import Model
from detectors.objects import ObjectStore
from orchestration.condition import Condition, change_began, condition_of
from orchestration.evidence import Evidence, Golden
from orchestration.golden import GoldenSet, content_of, freeze, golden_set
from orchestration.second_look import Clock, look_again
from orchestration.training_set import TrainingSet
from orchestration.workbench import readable
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.reviews import DEFECT, NORMAL


@dataclass(frozen=True)
class Contenders:
    """A candidate and the champion in service, each with its artefact's files. `champion`: None where there is none, or none that can be
    loaded; `without_champion` says which.
    """

    candidate: Model
    files: Mapping[str, bytes]
    champion: Model | None = None
    champion_files: Mapping[str, bytes] | None = None
    without_champion: str = "the line has no champion"


@dataclass(frozen=True)
class Sources:
    """Where evidence comes from."""

    ledger: Ledger
    store: ObjectStore
    clock: Clock


def gather(sources: Sources, request: RetrainRequest, training_set: TrainingSet, contenders: Contenders) -> Evidence:
    """What the gates judge a request's candidate by. The golden set is frozen on the way, as a version of its own if it is a new one."""
    ledger, store, line = sources.ledger, sources.store, request.line
    condition = condition_of(ledger, request)
    chosen, pixels = golden_set(line, ledger.reviewed(line), partial(readable, store))
    golden = (
        golden_evidence(chosen, pixels, condition, training_set, number=freeze(store, chosen))
        if chosen.images
        else _none(chosen)
    )
    bad = {content_of(each.key) for each in chosen.of(DEFECT)}
    held_out, unread = readable(store, (key for key in training_set.held_out if content_of(key) not in bad))
    return Evidence(
        candidate=contenders.candidate,
        champion=contenders.champion,
        held_out=held_out,
        files=contenders.files,
        champion_files=contenders.champion_files or {},
        without_champion=contenders.without_champion,
        unread=unread,
        golden=golden,
        change=condition.change,
        look=lambda: look_again(ledger, request, sources.clock, since=change_began(ledger, request)),
    )


def golden_evidence(
    chosen: GoldenSet, pixels: Mapping[str, Image], condition: Condition, training_set: TrainingSet, *, number: int
) -> Golden:
    """What of a golden set may judge: no image that the candidate learnt, none of a light that is over; none twice, as held out too."""
    learnt, held_out = ({content_of(key) for key in keys} for keys in (training_set.fit, training_set.held_out))
    present = [each for each in chosen.images if condition.holds(each.key, judged_at=each.judged_at)]
    fresh = [each for each in present if content_of(each.key) not in learnt]
    defects, normals = chosen.of(DEFECT), chosen.of(NORMAL)
    gone = f", {len(chosen.gone)} others cannot be read" if chosen.gone else ""
    words = (
        f"golden set {number}: {len(defects)} defects, {len(normals)} normals, {len(present)} of them judged {condition.words}, of these "
        f"{len(present) - len(fresh)} learnt by the candidate{gone}"
    )
    return Golden(
        number=number,
        defects={each.key: pixels[each.key] for each in fresh if each.says == DEFECT},
        normals={
            each.key: pixels[each.key] for each in fresh if each.says == NORMAL and content_of(each.key) not in held_out
        },
        words=words,
    )


def _none(chosen: GoldenSet) -> Golden:
    if not chosen.gone:
        return Golden()
    key, why = next(iter(chosen.gone.items()))
    return Golden(
        words=f"the golden set is empty: none of {len(chosen.gone)} reviewed images can be read ({key}: {why})"
    )
