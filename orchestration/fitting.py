"""What a line's configuration means for its model: which extractor, how it is fitted, and how it is packed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from detectors.artifact import Provenance, pack
from detectors.errors import ImageError, InvalidInput
from detectors.extractors import ExtractorCache
from detectors.fitting import Progress, fit_model, unwatched
from detectors.images import Image, decode
from detectors.manifest import Preprocessing
from detectors.model import Extractor, Model, detector_from
from detectors.preprocessing import Preparation, packed_mask
from streams.settings import LineConfig
from streams.stored_calibration import calibrated

QUANTISED_ON = 120
"""Images, spread over all, that 8 bits are made from and judged on."""


def preprocessing_of(config: LineConfig) -> Preprocessing:
    """The line's preprocessing; raises InvalidInput for one that cannot be carried out, and a mask that cannot be read.

    >>> preprocessing_of(LineConfig(crop=(0.0, 0.5, 1.0, 1.0))).crop
    (0.0, 0.5, 1.0, 1.0)
    """
    prepare = Preprocessing(grey=config.grey, crop=config.crop, tiles=config.tiles, overlap_px=config.overlap_px)
    Preparation(prepare, config.image_size)
    if config.mask is None:
        return prepare
    try:
        picture = decode(Path(config.mask).read_bytes())
    except (ImageError, OSError) as error:
        raise InvalidInput(
            f"mask {config.mask} cannot be read ({error}); give a picture, white where it counts"
        ) from error
    return msgspec.structs.replace(prepare, mask=packed_mask(picture, prepare, config.image_size))


def extractor_of(config: LineConfig, extractors: ExtractorCache) -> Extractor:
    """The extractor of a line before its images are known: never in 8 bits."""
    return extractors.load(
        config.backbone,
        image_size=config.image_size,
        layers=config.layers,
        runtime=config.runtime,
        prepare=preprocessing_of(config),
    )


def fit_line(
    images: Sequence[Image],
    keys: Sequence[str],
    config: LineConfig,
    extractors: ExtractorCache,
    *,
    through: Callable[[Extractor], Extractor] = lambda extractor: extractor,
    told: Progress = unwatched,
    vouched: frozenset[str] = frozenset(),
) -> Model:
    """The model of images by key that the configuration asks for; `through` wraps its extractor, `vouched` are keys of images that people
    called normal.
    """
    step = max(1, len(images) // QUANTISED_ON)
    some = [images[i] for i in range(0, len(images), step)] if config.runtime == "openvino-int8" else []
    extractor, notes = extractors.fitting(
        config.backbone,
        some,
        image_size=config.image_size,
        layers=config.layers,
        runtime=config.runtime,
        prepare=preprocessing_of(config),
    )
    return fit_model(
        images,
        keys,
        extractor=through(extractor),
        detector=detector_from(config.detector, bank=config.bank, seed=config.seed, progress=partial(told, "coreset")),
        false_alarm_rate=config.false_alarm_rate,
        memory=config.memory,
        told=told,
        notes=notes,
        vouched=vouched,
    )


def pack_version(model: Model, provenance: Provenance, config: LineConfig, *, golden_image: Image) -> dict[str, bytes]:
    """The files of a version of a line, with the thresholds of its drift watch: every version is packed here."""
    calibration = calibrated(model.reference, seed=config.seed)
    return pack(model, provenance, golden_image=golden_image, calibration=calibration)
