"""A folder that should hold normal images only: which look like intruders, and what leaving them out changes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from detectors.fitting import Progress, unwatched
from detectors.images import decode
from detectors.model import ImageScore, Model, heatmap
from orchestration.html_report import document, figure, row
from orchestration.image_files import ImageFiles
from orchestration.offline import fit_files
from streams.settings import LineConfig


class Intruder(msgspec.Struct, frozen=True, kw_only=True):
    """A training image that stands out; `score`: as a multiple of what hardly any normal image reaches."""

    path: str
    score: float


class Without(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the same images without the intruders: its threshold, and how many of the intruders it flags."""

    threshold: float
    flagged: int


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """What a screening found. `without` is None where there is no intruder."""

    images: int
    threshold: float
    intruders: tuple[Intruder, ...]
    without: Without | None


def screened(
    model: Model, paths: Mapping[str, Path], config: LineConfig, *, told: Progress = unwatched
) -> tuple[Screening, list[ImageScore]]:
    """Screen the training images of a model just fitted; `paths`: their files by key. Where some stand out, a second
    model is fitted without them, and says the scores of the intruders.
    """
    found = tuple(Intruder(path=str(paths[key]), score=times) for key, times in model.intruders.items())
    without, again = None, []
    if found:
        rest = {key: path for key, path in paths.items() if key not in model.intruders}
        other = fit_files(ImageFiles(list(rest.values())), list(rest), config, told=told)
        again = other.score(ImageFiles([paths[key] for key in model.intruders]))
        without = Without(
            threshold=other.threshold.value, flagged=sum(each.peak > other.threshold.value for each in again)
        )
    return Screening(images=len(paths), threshold=model.threshold.value, intruders=found, without=without), again


def words(screening: Screening) -> str:
    """What a person should know of it; nothing where there is no intruder."""
    if screening.without is None:
        return ""
    lines = [f"{len(screening.intruders)} of {screening.images} images look like intruders:"]
    lines += [f"  {each.score:.2f} x the limit: {each.path}" for each in screening.intruders]
    return "\n".join([*lines, _change(screening, screening.without)])


def _change(screening: Screening, without: Without) -> str:
    return (
        f"Without them the threshold is {without.threshold:.4g} instead of {screening.threshold:.4g}, and a model that has "
        f"not learnt them flags {without.flagged} of them. If they are bad, move them away and train again."
    )


def report(screening: Screening, scores: Sequence[ImageScore], title: str) -> str:
    """The intruders as one HTML file, with heatmaps of the model that has not learnt them."""
    if screening.without is None:
        return document(title, [f"<p>None of {screening.images} images looks like an intruder.</p>"])
    figures = []
    for intruder, score in zip(screening.intruders, scores, strict=True):
        image = decode(Path(intruder.path).read_bytes())
        shown = heatmap(image, score.map_HW, screening.without.threshold)
        caption = f"{Path(intruder.path).name}: {intruder.score:.2f} x the limit"
        figures.append(figure([(image, "the image"), (shown, "its heatmap")], caption))
    return document(title, [f"<p>{_change(screening, screening.without)}</p>", row(figures)])
