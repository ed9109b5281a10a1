"""What a training set may be chosen from: the request's window, normals that an earlier model had learnt, and what people said.

- *blind*: the window;
- *refresh*: the window, the normals of the champion that are still valid, and what people called normal: so that the night shift does
  not erase the day shift;
- *trusted*: what people called normal, and the line's folder of normal images.

What a person called defective is left out of all of them, whenever it was said. What was judged during a surge or a fault of the camera is
left out too, but in refresh and trusted not what a person called normal: who looked at a part knows better than the hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectors.errors import ArtifactError, InvalidInput, NotFound
from detectors.objects import ObjectStore
from detectors.registry import Registry
from orchestration.image_files import image_files, kept, readable
from orchestration.windows import Window
from streams.causes import REFRESH, TRUSTED
from streams.reviews import DEFECT, NORMAL, ReviewedPart

MOST_OLD = 200
"""Normals of an earlier model that a refresh takes along, spread evenly over those it had learnt from."""

MOST_VOUCHED = 200
"""Images that people called normal, the latest of them."""

DEFECT_BY_A_PERSON = "a person called it defective"


@dataclass(frozen=True)
class Material:
    """Object keys: the `recent` images of the window and `old` ones that an earlier model learnt from, oldest first; `vouched`: what
    people called normal; `left_out`: of all these, which may not be learnt and why.
    """

    recent: tuple[str, ...]
    old: tuple[str, ...] = ()
    vouched: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def every(self) -> tuple[str, ...]:
        """All of it, each once, by rank: of two equal images the later one says nothing. What people said comes first, defects before
        normals, and defects that may not be learnt stay among them, since other images may show the same part.
        """
        defective = (key for key, why in self.left_out.items() if why == DEFECT_BY_A_PERSON)
        allowed = (key for key in (*self.vouched, *self.old, *self.recent) if key not in self.left_out)
        return tuple(dict.fromkeys((*defective, *allowed)))


def material_of(
    mode: str, window: Window, reviewed: Sequence[ReviewedPart], learnt: Sequence[str], *, folder: Sequence[str] = ()
) -> Material:
    """The material of a request in one of the modes.

    `reviewed`: parts of the line that people spoke of; `learnt`: what the champion had learnt from; `folder`: the line's normal
    images.
    """
    normal = tuple(part.verdict.image_key for part in reviewed if part.says == NORMAL)[-MOST_VOUCHED:]
    defective = {part.verdict.image_key for part in reviewed if part.says == DEFECT}
    recent, inside = window.keys, frozenset(window.keys)
    old: tuple[str, ...] = ()
    vouched = tuple(key for key in normal if key in inside)
    if mode == TRUSTED:
        recent, vouched = (), (*folder, *normal)
    if mode == REFRESH:
        old, vouched = _spread([key for key in learnt if key not in defective], MOST_OLD), normal
    seen = frozenset((*recent, *old, *vouched, *window.left_out))
    spoken = dict.fromkeys(sorted(defective & seen), DEFECT_BY_A_PERSON)
    passed_over = {key: why for key, why in window.left_out.items() if key not in vouched}
    return Material(recent=recent, old=old, vouched=vouched, left_out={**passed_over, **spoken})


def learnt_by_champion(registry: Registry, line: str) -> tuple[str, ...]:
    """The images that the champion learnt from, none where there is no champion or its manifest cannot be read."""
    champion = registry.pointers(line).champion
    if champion is None:
        return ()
    try:
        manifest = registry.manifest(line, champion)
    except (ArtifactError, NotFound):
        return ()
    return tuple(key for key in manifest.training_keys if key not in manifest.left_out)


def trusted_folder(store: ObjectStore, line: str, folder: str | None) -> tuple[str, ...]:
    """Keys of the line's normal images, put into the store where they were not; none without a folder.

    Raises InvalidInput for a folder that is not there or has no image.
    """
    if folder is None:
        return ()
    try:
        files, _ = readable(image_files(Path(folder)))
    except InvalidInput as error:
        raise InvalidInput(f"line {line!r}, trusted: {error}; mend `trusted` in driftline.toml") from error
    return tuple(kept(store, line, path) for path in files.paths)


def _spread(keys: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many of the keys, spread evenly, in order.

    >>> _spread("abcdef", 3)
    ('a', 'c', 'e')
    """
    wanted = min(most, len(keys))
    return tuple(keys[i * len(keys) // wanted] for i in range(wanted))
