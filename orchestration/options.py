"""The options common to every command that fits a model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from detectors.errors import InvalidInput
from detectors.manifest import RUNTIMES
from streams.settings import LineConfig, Settings

DETECTORS = ("patchcore", "padim", "dfkde", "patchcluster")
BACKBONES = ("resnet18", "wide_resnet50_2", "efficientnet_lite0")
LEAST_MEMORY_BYTES = 512 * 2**20

_OPTIONS = (
    click.option("--detector", type=click.Choice(DETECTORS), help="The anomaly detector."),
    click.option("--backbone", type=click.Choice(BACKBONES), help="Where patch features come from."),
    click.option("--layers", help="Layers of the backbone, separated by commas."),
    click.option("--weights", type=click.Path(path_type=Path), help="A file with the backbone's weights."),
    click.option(
        "--image-size", type=click.IntRange(32, 2048), help="Side of the square an image is resized to, pixels."
    ),
    click.option("--bank", type=click.IntRange(1), help="Rows of the memory bank."),
    click.option("--runtime", type=click.Choice(RUNTIMES), help="What runs the backbone."),
    click.option("--device", type=click.Choice(("cpu", "cuda")), help="Where it runs."),
    click.option("--seed", type=int, help="Seed of everything drawn at random."),
    click.option("--memory", type=click.IntRange(1), help="Bytes a fit may take."),
)


def settings() -> Settings:
    """This installation, from the environment: the one place of the command line that reads it."""
    return Settings.from_environ(os.environ)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command; `config_of` turns what they give into a LineConfig."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def config_of(options: dict[str, Any], *, detector: str, base: LineConfig | None = None) -> LineConfig:
    """The configuration that the options describe; raises InvalidInput for what cannot be had.

    >>> config_of({"runtime": "torch", "device": "cpu", "bank": 500}, detector="patchcore").bank
    500
    """
    memory = options.get("memory")
    if memory is not None and memory < LEAST_MEMORY_BYTES:
        raise InvalidInput(f"--memory {memory}: a fit needs at least {LEAST_MEMORY_BYTES} bytes; give more")
    chosen = options.get("detector") or detector
    given = {
        name: options.get(name) for name in ("backbone", "image_size", "bank", "seed", "runtime", "device", "memory")
    }
    weights, layers = options.get("weights"), options.get("layers")
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if weights is not None:
        changes["weights"] = str(weights)
    if layers is not None:
        changes["layers"] = tuple(each.strip() for each in layers.split(",") if each.strip())
    return msgspec.structs.replace(base or LineConfig(), detector=chosen, **changes)
