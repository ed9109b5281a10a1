"""What the gates judge by: candidate and champion, the images that both are shown, and what they say of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InvalidInput
from detectors.images import Image
from detectors.model import ImageScore, Model
from detectors.pasting import paste_piece
from detectors.synthetic import KINDS, draw_defect
from orchestration.second_look import Looked

Images = Mapping[str, Image]
"""Images by key."""

STRENGTHS = (0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Golden:
    """What the line's golden set has to say of a candidate: reviewed images that show the line as it is now and that it has not learnt.

    `number`: which version of the set (None: the line has none); `words`: which, and what is in it.
    """

    number: int | None = None
    defects: Images = field(default_factory=dict)
    normals: Images = field(default_factory=dict)
    words: str = "no golden set: nobody has reviewed an image of the line"


@dataclass(frozen=True)
class Made:
    """An image with a defect that was drawn or pasted into it; `mask_HW`: where; `plain`: the key of the image it was made of."""

    image: Image
    mask_HW: NDArray[np.bool_]  # noqa: N815
    plain: str
    strength: float


class Scores:
    """What a model says of images, each asked once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._known: dict[str, ImageScore] = {}

    def of(self, images: Images) -> list[ImageScore]:
        """The scores of the images, in order; raises InvalidInput where one is no finite number."""
        for key, image in images.items():
            if key not in self._known:
                (self._known[key],) = self.model.score([image])
        scores = [self._known[key] for key in images]
        odd = sum(not (np.isfinite(each.peak) and np.isfinite(each.bulk)) for each in scores)
        if odd:
            raise InvalidInput(
                f"{odd} of {len(scores)} scores are no finite numbers; look at the backbone and the bank"
            )
        return scores

    def peaks(self, images: Images) -> NDArray[np.float64]:
        """Their image scores."""
        return np.array([score.peak for score in self.of(images)], dtype=np.float64)


@dataclass(frozen=True)
class Evidence:
    """What the gates judge: the candidate with its artefact's `files`, the champion in service with its own (None: `without_champion` says
    why), and what they are shown.

    `held_out`: images of the training set that the candidate has not learnt, by key; `unread`: those that cannot be read, and why;
    `golden`: reviewed images; `change`: what changed the line and asks for the candidate, empty where nothing did; `look`: asks what else
    is the matter with the line, which may take a while.
    """

    candidate: Model
    champion: Model | None
    held_out: Images
    files: Mapping[str, bytes]
    champion_files: Mapping[str, bytes] = field(default_factory=dict)
    without_champion: str = "the line has no champion"
    unread: Mapping[str, str] = field(default_factory=dict)
    golden: Golden = field(default_factory=Golden)
    change: str = ""
    look: Callable[[], Looked] = Looked

    @cached_property
    def by_candidate(self) -> Scores:
        """What the candidate says."""
        return Scores(self.candidate)

    @cached_property
    def by_champion(self) -> Scores | None:
        """What the champion says."""
        return None if self.champion is None else Scores(self.champion)

    @property
    def recent(self) -> Images:
        """The held-out images; raises InvalidInput where there are none."""
        if not self.held_out:
            raise InvalidInput(
                f"no held-out image can be judged{_first(self.unread)}; ask again with images that can be read"
            )
        return self.held_out

    @property
    def normals(self) -> Images:
        """Held-out images and reviewed normals together."""
        return {**self.recent, **self.golden.normals}

    @cached_property
    def drawn(self) -> Mapping[str, Made]:
        """Every held-out image once a strength, with a defect drawn into it."""
        return drawn_defects(self.recent)

    @cached_property
    def pasted(self) -> Mapping[str, Made]:
        """Every held-out image once, with a piece of another one pasted into it."""
        return pasted_defects(self.recent)


def pictures(made: Mapping[str, Made]) -> Images:
    """The images of made defects."""
    return {key: each.image for key, each in made.items()}


def drawn_defects(images: Images) -> Mapping[str, Made]:
    """Every image once a strength, with one defect drawn into it; kinds in turn, the same for everybody who asks."""
    rng = np.random.default_rng(0)
    made: dict[str, Made] = {}
    for turn, strength in enumerate(STRENGTHS):
        for i, (key, image) in enumerate(images.items()):
            kind = KINDS[(i + turn) % len(KINDS)]
            drawn, mask_HW = draw_defect(image, kind=kind, strength=strength, rng=rng)
            made[f"{key} with a {kind} of {strength}"] = Made(drawn, mask_HW, key, strength)
    return made


def pasted_defects(images: Images) -> Mapping[str, Made]:
    """Every image once, with a piece of the next one pasted into it; strengths in turn, the same for everybody who asks."""
    rng = np.random.default_rng(0)
    keys: Sequence[str] = list(images)
    made: dict[str, Made] = {}
    for i, key in enumerate(keys):
        strength, donor = STRENGTHS[i % len(STRENGTHS)], keys[(i + 1) % len(keys)]
        pasted, mask_HW = paste_piece(images[key], images[donor], strength=strength, rng=rng)
        made[f"{key} with a piece of {donor}"] = Made(pasted, mask_HW, key, strength)
    return made


def _first(unread: Mapping[str, str]) -> str:
    if not unread:
        return ""
    key, why = next(iter(unread.items()))
    return f" ({len(unread)} cannot be read; {key}: {why})"
