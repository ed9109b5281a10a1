"""Where this installation keeps things and how its lines are run: read once, in the composition root, into frozen objects."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from detectors.errors import InvalidInput
from streams.cron import check_schedule
from streams.kafka_address import with_account

KNOWN_VARIABLES = (
    "DRIFTLINE_HOME",
    "DRIFTLINE_BUS",
    "DRIFTLINE_STORE",
    "DRIFTLINE_LEDGER",
    "DRIFTLINE_KAFKA_USER",
    "DRIFTLINE_KAFKA_PASSWORD",
    "DRIFTLINE_MODEL_MEMORY",
    "DRIFTLINE_HEALTH",
    "DRIFTLINE_TEST_DATA",
    "DRIFTLINE_TEST_WEIGHTS",
    "DRIFTLINE_TEST_KAFKA",
    "DRIFTLINE_TEST_KAFKA_SECURE",
    "DRIFTLINE_TEST_S3",
    "DRIFTLINE_TEST_POSTGRESQL",
)

MODEL_MEMORY_BYTES = 2 << 30
"""What the models of all lines may take on one scorer, unless DRIFTLINE_MODEL_MEMORY says otherwise."""


def nearest_name(name: str, known: tuple[str, ...]) -> str:
    """The known name that a misspelt one most likely meant.

    >>> nearest_name("DRIFTLINE_HOEM", KNOWN_VARIABLES)
    'DRIFTLINE_HOME'
    """
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


@dataclass(frozen=True)
class Settings:
    """Where this installation keeps things. URLs of the embedded default are paths under `home`.

    `model_memory`: bytes that the models in service may take on one scorer. `health`: HOST:PORT on which a worker tells how it goes,
    None for nowhere; it is one process's own: children do not get it.
    """

    home: Path
    bus: str = field(repr=False)  # may hold a password
    store: str
    ledger: str = field(repr=False)  # may hold a password
    model_memory: int = MODEL_MEMORY_BYTES
    health: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Settings from `DRIFTLINE_*` variables; an unknown one raises InvalidInput naming the nearest valid one.

        >>> Settings.from_environ({"DRIFTLINE_HOME": "/srv/line"}).bus
        'sqlite:////srv/line/bus.sqlite'
        """
        for name in environ:
            if name.startswith("DRIFTLINE_") and name not in KNOWN_VARIABLES:
                near = nearest_name(name, KNOWN_VARIABLES)
                raise InvalidInput(f"unknown variable {name}; did you mean {near}? Known: {', '.join(KNOWN_VARIABLES)}")
        home = Path(environ.get("DRIFTLINE_HOME", "driftline-home")).absolute()
        return cls(
            home=home,
            bus=with_account(
                environ.get("DRIFTLINE_BUS", f"sqlite:///{home / 'bus.sqlite'}"),
                environ.get("DRIFTLINE_KAFKA_USER") or None,
                environ.get("DRIFTLINE_KAFKA_PASSWORD"),
            ),
            store=environ.get("DRIFTLINE_STORE", (home / "objects").as_uri()),
            ledger=environ.get("DRIFTLINE_LEDGER", f"sqlite:///{home / 'ledger.sqlite'}"),
            model_memory=_bytes_of("DRIFTLINE_MODEL_MEMORY", environ, MODEL_MEMORY_BYTES),
            health=environ.get("DRIFTLINE_HEALTH") or None,
        )

    def environ(self) -> dict[str, str]:
        """The variables that give a child process these settings, all but `health`."""
        return {
            "DRIFTLINE_HOME": str(self.home),
            "DRIFTLINE_BUS": self.bus,
            "DRIFTLINE_STORE": self.store,
            "DRIFTLINE_LEDGER": self.ledger,
            "DRIFTLINE_MODEL_MEMORY": str(self.model_memory),
        }


def _bytes_of(name: str, environ: Mapping[str, str], default: int) -> int:
    text = environ.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidInput(f"{name} is {text!r}; give a number of bytes above 0, such as {default}")
    return int(text)


class LineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one line is run. A line nobody described works with these defaults.

    `cold_start_images`: images collected before the first blind model; `retrain_images`: images after a change before a
    retrain is asked for; `false_alarm_rate`: share of normal images a threshold may flag; `expected_run_length`: images
    between false drift alarms; `cooldown_s`: quiet time after a request; `auto`: drift retrains without a person;
    `memory`: bytes a fit may take; `layers` of the backbone, None for its usual ones. `grey`, `crop`, `mask` (a
    picture: white counts), `tiles` and `overlap_px` as in `Preprocessing`; `deadline_ms`: a verdict later than this after
    its image was taken is marked overdue (None: none is); `backlog`: whether images that have waited are judged in
    their order or after newer ones (`streams.newest_first`).

    `retrain_mode`: what a drifted line learns from, its recent images alone or the still valid normals of its model as well;
    `trusted`: a folder of normal images for the mode of that name; `schedule`: a cron expression, in UTC, for a refresh;
    `review_images`: so many parts reviewed since the last model ask for a refresh (0: never). `shadow_images`: live images that
    a candidate scores beside the champion before it may serve (0: none), a `shadow_share` of them all; `promotion`: whether it
    then serves by itself, after a person's approval (two people's with `four_eyes`), or never by itself; `probation_images`:
    live images after a promotion, of which the same share is scored by the version it replaced too, which comes back where
    the new one is worse (0: none).
    """

    detector: str = "patchcluster"
    backbone: str = "efficientnet_lite0"
    layers: tuple[str, ...] | None = None
    weights: str | None = None
    image_size: int = 256
    runtime: str = "torch"
    device: str = "cpu"
    grey: bool = False
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mask: str | None = None
    tiles: tuple[int, int] = (1, 1)
    overlap_px: int = 0
    bank: int = 4000
    memory: int | None = None
    seed: int = 0
    false_alarm_rate: float = 0.01
    cold_start_images: int = 100
    retrain_images: int = 60
    expected_run_length: int = 10_000
    cooldown_s: float = 60.0
    auto: bool = True
    deadline_ms: Annotated[float, msgspec.Meta(gt=0)] | None = None
    backlog: Literal["oldest-first", "newest-first"] = "oldest-first"
    retrain_mode: Literal["blind", "refresh"] = "blind"
    trusted: str | None = None
    schedule: str | None = None
    review_images: Annotated[int, msgspec.Meta(ge=0)] = 50
    shadow_images: Annotated[int, msgspec.Meta(ge=0)] = 0
    shadow_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25
    promotion: Literal["automatic", "approval", "never"] = "automatic"
    four_eyes: bool = False
    probation_images: Annotated[int, msgspec.Meta(ge=0)] = 200


class _Lines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lines: dict[str, LineConfig] = {}


def lines_file(home: Path) -> Path:
    """Where the lines of an installation are described."""
    return home / "driftline.toml"


def last_good_file(home: Path) -> Path:
    """Where the last good description is kept."""
    return home / "driftline.last-good.toml"


def load_lines(home: Path) -> Mapping[str, LineConfig]:
    """The lines described in `driftline.toml` under `home` (`[lines."press-4/door"]`); none if there is no file.

    Raises InvalidInput for a file with a mistake, and for none or an empty one where a last good one is kept. What runs on takes
    `streams.lines_in_force` instead.

    >>> load_lines(Path("/nowhere"))
    {}
    """
    return parse_lines(described_in(home), lines_file(home))


def described_in(home: Path) -> bytes:
    """What `driftline.toml` under `home` holds, nothing where there is none. Raises InvalidInput as `load_lines` does."""
    path, copy = lines_file(home), last_good_file(home)
    content = read_lines(path)
    if content is not None and content.strip():
        return content
    kept = read_lines(copy) or b""
    if kept.strip():
        raise InvalidInput(
            f"{path} is {'missing' if content is None else 'empty'}, {copy.name} beside it holds {len(kept)} bytes; write the file again "
            f"({copy.name} is what it held), or remove both to go back to the defaults"
        )
    return b""


def read_lines(path: Path) -> bytes | None:
    """What a file that describes lines holds, None where there is none; raises InvalidInput for one that cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{path}: {error}; let this user read it") from error


def parse_lines(content: bytes, path: Path) -> Mapping[str, LineConfig]:
    """The lines that a file's content describes; raises InvalidInput for a mistake, with the file, the line and the cure.

    >>> parse_lines(b"[lines.tiles]\\nbank = 2000", Path("driftline.toml"))["tiles"].bank
    2000
    """
    try:
        document = tomllib.loads(content.decode())
        _check_names(document, path)
        lines = msgspec.convert(document, _Lines).lines
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        known = ", ".join(LineConfig.__struct_fields__)
        raise InvalidInput(f"{path}: {error}; a line knows: {known}") from error
    for line, config in lines.items():
        _check_schedule_of(line, config, path)
    return lines


def _check_schedule_of(line: str, config: LineConfig, path: Path) -> None:
    try:
        if config.schedule is not None:
            check_schedule(config.schedule)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: line {line!r}: {error}") from error


def _check_names(document: Mapping[str, object], path: Path) -> None:
    """Raise InvalidInput for a key that nothing knows, naming the nearest one that something does."""
    _check_keys(document, _Lines.__struct_fields__, f"{path}")
    lines = document.get("lines")
    for line, described in lines.items() if isinstance(lines, Mapping) else ():
        if isinstance(described, Mapping):
            _check_keys(described, LineConfig.__struct_fields__, f"{path}: line {line!r}")


def _check_keys(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            near = nearest_name(name, known)
            raise InvalidInput(f"{where}: unknown key {name!r}; did you mean {near!r}? Known: {', '.join(known)}")


def line_config(lines: Mapping[str, LineConfig], line: str) -> LineConfig:
    """The configuration of a line, the defaults for one nobody described.

    >>> line_config({}, "tiles").bank
    4000
    """
    return lines.get(line) or LineConfig()


def weights_files(lines: Mapping[str, LineConfig]) -> dict[str, Path]:
    """The weights file of each backbone for which a line names one.

    >>> weights_files({"tiles": LineConfig(backbone="resnet18", weights="/srv/resnet18.pth")})
    {'resnet18': PosixPath('/srv/resnet18.pth')}
    """
    return {config.backbone: Path(config.weights) for config in lines.values() if config.weights is not None}


def device_of(lines: Mapping[str, LineConfig]) -> str:
    """What torch runs on, for all lines of an installation: the first device named that is not the processor.

    >>> device_of({"tiles": LineConfig()})
    'cpu'
    """
    return next((config.device for config in lines.values() if config.device != "cpu"), "cpu")
