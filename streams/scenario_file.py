"""The scenario file as it is written: its keys, their types, and what is said of a wrong one."""

import math
import re
from typing import Annotated, Any, Literal

import msgspec

from detectors.errors import InvalidInput
from streams.settings import LineConfig, nearest_name

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common options of everything that fits a model; None: as the line is configured."""

    detector: Literal["patchcore", "padim", "dfkde", "patchcluster"] | None = None
    backbone: Literal["resnet18", "wide_resnet50_2", "efficientnet_lite0"] | None = None
    weights: str | None = None
    image_size: _Count | None = None
    bank: _Count | None = None
    runtime: Literal["torch", "openvino", "openvino-int8"] | None = None
    device: Literal["cpu", "cuda"] | None = None
    seed: int | None = None
    memory: _Count | None = None


class TrustedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a trusted start is made from."""

    images: tuple[str, ...]


class PhaseTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A phase as written. The numbers of its perturbation are judged by `streams.perturbation`."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    images: _Count
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    bad_rate: _Share = 0.0
    settle: bool = False
    ramp: bool = False
    light: float = 1.0
    gamma: float = 1.0
    blur_px: float = 0.0
    noise: float = 0.0
    shift_px: float = 0.0
    rotate_deg: float = 0.0
    smudge: float = 0.0
    blank: bool = False
    jitter: float = 0.0


class ScenarioFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file as written. `config`: how the line is run, keys of `LineConfig`."""

    phase: Annotated[tuple[PhaseTable, ...], msgspec.Meta(min_length=1)]
    line: str | None = None
    lines: list[object] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    rate: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    root: str | None = None
    start: Literal["blind", "trusted"] = "blind"
    trusted: TrustedTable | None = None
    model: ModelOptions = ModelOptions()
    config: dict[str, Any] = {}


class _Configured(msgspec.Struct, frozen=True):
    config: LineConfig


def read_file(document: dict[str, object]) -> ScenarioFile:
    """The typed file of a TOML document; raises InvalidInput for an unknown key (with the nearest) or a wrong value."""
    _check_keys(document)
    try:
        msgspec.convert({"config": document.get("config", {})}, _Configured)
        return msgspec.convert(document, ScenarioFile)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        found = f"{place} = {_value_at(document, place)!r}: " if place else ""
        raise InvalidInput(f"{found}{text}; correct the value") from error


def _check_keys(document: dict[str, object]) -> None:
    """Raise InvalidInput for a key nobody knows, at any level, and for numbers that are none."""
    _check_table(document, ScenarioFile, "the scenario")
    _check_table(document.get("trusted"), TrustedTable, "[trusted]")
    _check_table(document.get("model"), ModelOptions, "[model]")
    _check_table(document.get("config"), LineConfig, "[config]")
    phases = document.get("phase")
    for number, phase in enumerate(phases if isinstance(phases, list) else []):
        _check_table(phase, PhaseTable, f"[[phase]] number {number + 1}")


def _check_table(table: object, kind: type[msgspec.Struct], where: str) -> None:
    known = kind.__struct_fields__
    for key, value in table.items() if isinstance(table, dict) else ():
        if key not in known:
            near = nearest_name(key, known)
            raise InvalidInput(f"unknown key {key!r} in {where}; did you mean {near!r}? It knows: {', '.join(known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(f"{key} = {value} in {where}; it must be finite: write a number")


def _value_at(document: object, place: str) -> object:
    """The value at a place such as `phase[0].bad_rate`; None where there is nothing."""
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", place):
        try:
            document = document[int(index)] if index else document[name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return document
