"""A scenario: a line, its phases and what changes between them; and the plan of images that follows from its seed.

Everything is checked and every glob resolved when the file is loaded, before anything is sent. The same file, data
and seed give the same plan on every machine.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from detectors.encoding import check_line_name
from detectors.errors import InvalidInput, NotYet
from streams.perturbation import PERTURBATION_KEYS, Perturbation, interpolate
from streams.scenario_file import ModelOptions, PhaseTable, ScenarioFile, read_file

FIRST_GOOD = 5
"""A phase begins with this many good images where it has them: lines do not change at a broken part."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the run: `images` drawn from its pools, `bad_rate` of them bad, each perturbed alike (or ramped)."""

    name: str
    images: int
    good: tuple[Path, ...]
    bad: tuple[Path, ...]
    bad_rate: float
    settle: bool
    ramp: bool
    perturbation: Perturbation

    @property
    def bad_images(self) -> int:
        """How many of the phase's images are bad: exactly `round(images * bad_rate)` (half to even)."""
        return round(self.images * self.bad_rate)


@dataclass(frozen=True)
class Scenario:
    """A scenario, variables expanded and globs resolved. `rate`: images per second, 0: as fast as they are scored; `config`: how the line
    is run where that is not the default.
    """

    name: str
    line: str
    seed: int
    rate: float
    root: Path
    start: Literal["blind", "trusted"]
    trusted: tuple[Path, ...]
    model: ModelOptions
    phases: tuple[Phase, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedImage:
    """One image of the run. `index` counts from 0 in its phase; `image_id` is unique; `seed` feeds noise and jitter."""

    phase: str
    index: int
    path: Path
    bad: bool
    perturbation: Perturbation
    image_id: str
    seed: tuple[int, int, int]


def load_scenario(path: Path, *, environ: Mapping[str, str]) -> Scenario:
    """The scenario in a file, checked; raises InvalidInput naming key, value and cure, NotYet for several lines.

    `environ` gives the variables that `root` and the globs may use (`$NAME` or `${NAME}`).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; give the path of a scenario file (TOML, UTF-8)") from error
    return parse_scenario(text, path=path.absolute(), environ=environ)


def parse_scenario(text: str, *, path: Path, environ: Mapping[str, str]) -> Scenario:
    """The scenario in `text`, as if it lay at `path`; raises as `load_scenario`."""
    try:
        file = read_file(tomllib.loads(text))
        line = _line_of(file)
        pools = _Pools(folder=path.parent, root=_root(file, path.parent, environ), environ=environ)
        phases = tuple(_phase(phase, pools) for phase in file.phase)
        _check_names(phases)
        return Scenario(
            name=path.stem,
            line=line,
            seed=file.seed,
            rate=file.rate,
            root=pools.root,
            start=file.start,
            trusted=_trusted(file, pools),
            model=_expand_weights(file.model, environ),
            phases=phases,
            config=file.config,
        )
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path}: not TOML: {error}; mend that place") from error
    except InvalidInput as error:
        raise type(error)(f"{path}: {error}") from error


def plan(scenario: Scenario) -> Iterator[PlannedImage]:
    """The images of the run in order, drawn from the seed.

    Each phase shuffles its good and its bad images, takes them in turn, and goes round again in the same order when a
    pool is used up, so that an image stays away as long as it can. Bad images lie at random places, none among the
    first few.
    """
    before = Perturbation()
    for number, phase in enumerate(scenario.phases):
        rng = np.random.default_rng([scenario.seed, number])
        good, bad = (_in_turn(pool, rng) for pool in (phase.good, phase.bad))
        places = _bad_places(phase, rng)
        for index in range(phase.images):
            end = (index + 1) / phase.images
            yield PlannedImage(
                phase=phase.name,
                index=index,
                path=next(bad if index in places else good),
                bad=index in places,
                perturbation=interpolate(before, phase.perturbation, end) if phase.ramp else phase.perturbation,
                image_id=f"{phase.name}-{index:04d}",
                seed=(scenario.seed, number, index),
            )
        before = phase.perturbation


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced from `environ`, `$$` by a dollar; raises InvalidInput for one not set or empty.

    >>> expand("$DATA/tiles$$1", {"DATA": "/srv"})
    '/srv/tiles$1'
    """

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"]
        if name is None:
            return "$"
        if not environ.get(name):
            raise InvalidInput(f"{text!r}: the variable {name} is not set; set it ({name}=/path) or write the path out")
        return environ[name]

    return re.sub(r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", value, text)


@dataclass(frozen=True)
class _Pools:
    """Finds the images that globs and lists name."""

    folder: Path
    root: Path
    environ: Mapping[str, str]

    def of(self, entries: tuple[str, ...], where: str) -> tuple[Path, ...]:
        """The files of all entries, sorted within an entry, each once."""
        found = [path for entry in entries for path in self._entry(expand(entry, self.environ), where)]
        return tuple(dict.fromkeys(found))

    def _entry(self, entry: str, where: str) -> list[Path]:
        if entry.startswith("@"):
            return self._listed(self.folder / entry[1:], where)
        if not entry:
            raise InvalidInput(f"{where}: an empty glob; write one such as 'good/*.jpg'")
        base = Path(Path(entry).anchor) if Path(entry).is_absolute() else self.root
        pattern = str(Path(entry).relative_to(base)) if base != self.root else entry
        found = sorted(path for path in base.glob(pattern) if path.is_file())
        if not found:
            raise InvalidInput(f"{where}: the glob {entry!r} finds no file under {base}; correct it or `root`")
        return found

    def _listed(self, file: Path, where: str) -> list[Path]:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"{where}: the list {file} cannot be read: {error}; lists lie beside the scenario"
            ) from error
        paths = [self.root / line for line in lines if line and not line.startswith("#")]
        if not paths:
            raise InvalidInput(f"{where}: the list {file} is empty; write a path a line")
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise InvalidInput(f"{where}: {missing}, named in {file.name}, is no file; correct the list or `root`")
        return paths


def _line_of(file: ScenarioFile) -> str:
    if file.lines is not None:
        raise NotYet("`lines`: several lines in one scenario are not built yet; run a scenario with one `line` a line")
    if file.line is None:
        raise InvalidInput('`line` is missing; name the line, such as line = "tiles"')
    check_line_name(file.line)
    return file.line


def _root(file: ScenarioFile, folder: Path, environ: Mapping[str, str]) -> Path:
    root = folder / expand(file.root, environ) if file.root is not None else folder
    if not root.is_dir():
        raise InvalidInput(f"root = {file.root!r}: {root} is no folder; give the folder that the globs start from")
    return root


def _phase(phase: PhaseTable, pools: _Pools) -> Phase:
    where = f"phase {phase.name!r}"
    try:
        perturbation = Perturbation(**{name: getattr(phase, name) for name in PERTURBATION_KEYS})
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error
    resolved = Phase(
        name=phase.name,
        images=phase.images,
        good=pools.of(phase.good, f"{where}, good"),
        bad=pools.of(phase.bad, f"{where}, bad"),
        bad_rate=phase.bad_rate,
        settle=phase.settle,
        ramp=phase.ramp,
        perturbation=perturbation,
    )
    if resolved.bad_images and not resolved.bad:
        raise InvalidInput(
            f"{where}: bad_rate = {phase.bad_rate} but `bad` names no image; add some or set bad_rate = 0"
        )
    if resolved.images > resolved.bad_images and not resolved.good:
        raise InvalidInput(
            f"{where}: {phase.images - resolved.bad_images} good images wanted, `good` names none; add some"
        )
    return resolved


def _check_names(phases: tuple[Phase, ...]) -> None:
    names = [phase.name for phase in phases]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InvalidInput(
            f"two phases are called {double!r}; image ids are made of the name: call one of them otherwise"
        )


def _trusted(file: ScenarioFile, pools: _Pools) -> tuple[Path, ...]:
    images = pools.of(file.trusted.images, "[trusted] images") if file.trusted is not None else ()
    if file.start == "trusted" and not images:
        raise InvalidInput('start = "trusted" but [trusted] images names none; add them or start blind')
    return images


def _expand_weights(model: ModelOptions, environ: Mapping[str, str]) -> ModelOptions:
    if model.weights is None:
        return model
    return msgspec.structs.replace(model, weights=expand(model.weights, environ))


def _in_turn(pool: tuple[Path, ...], rng: np.random.Generator) -> Iterator[Path]:
    order = rng.permutation(len(pool))
    while len(pool):
        yield from (pool[place] for place in order)


def _bad_places(phase: Phase, rng: np.random.Generator) -> frozenset[int]:
    first = min(FIRST_GOOD, phase.images - phase.bad_images)
    return frozenset((first + rng.permutation(phase.images - first)[: phase.bad_images]).tolist())
