"""What a model version says about itself, as plain data: the `manifest.json` of an artefact. Light: imports no torch."""

import hashlib

import msgspec

from detectors.errors import ArtifactError

FORMAT = 1

RUNTIMES = ("torch", "openvino", "openvino-int8")
"""What can run a backbone."""


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """From the camera's image to squares for the backbone; `detectors.preprocessing` carries it out.

    `grey`: colour is thrown away; `crop`: (left, top, right, bottom) as shares of width and height, the rest is never
    looked at; `tiles`: (rows, columns) of squares that the crop is cut into, each of the backbone's image size, which
    overlap by `overlap_px`; `mask`: which patches count (from `packed_mask`), empty for all: the others are blanked,
    and score 0.
    """

    grey: bool = False
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    tiles: tuple[int, int] = (1, 1)
    overlap_px: int = 0
    mask: str = ""


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How an image becomes patch features. Two models with equal specifications share one pass through the backbone.

    `image_size` is the side in pixels of the squares the image becomes (`prepare`); `preprocessing` counts changes of
    our own steps; `network_sha256`: of the 8-bit network, where `runtime` is `openvino-int8`.
    """

    backbone: str
    layers: tuple[str, ...]
    image_size: int
    weights_sha256: str
    preprocessing: int = 1
    runtime: str = "torch"
    prepare: Preprocessing = Preprocessing()
    network_sha256: str | None = None

    @property
    def digest(self) -> str:
        """Identity of the specification; fields that came later count where they are not the default.

        >>> FeatureSpec(backbone="resnet18", layers=("layer2",), image_size=256, weights_sha256="00").digest[:8]
        'dbbe0718'
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        usual = {"runtime": "torch", "prepare": Preprocessing(), "network_sha256": None}
        counted = {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
        return hashlib.sha256(msgspec.json.encode(counted)).hexdigest()


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """Scores above `value` are flagged. `low`..`high`: 95 % interval of the false-alarm rate it will obtain on unseen normals."""

    value: float
    false_alarm_rate: float
    low: float
    high: float
    method: str
    images: int


class DriftReference(msgspec.Struct, frozen=True, kw_only=True):
    """Signals of the model's own normal images, each left out of the bank that scored it; one entry an image, aligned, fit order.

    `regions`: `maps.region_scores` of each image. What came later is empty in older manifests: it is not watched.
    """

    peak: tuple[float, ...]
    bulk: tuple[float, ...]
    mean: tuple[float, ...]
    contrast: tuple[float, ...]
    sharpness: tuple[float, ...]
    warmth: tuple[float, ...] = ()
    tint: tuple[float, ...] = ()
    saturated: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    over: tuple[float, ...] = ()
    regions: tuple[tuple[float, ...], ...] = ()


class DriftCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a drift monitor needs of a reference and cannot compute at once: made by a bootstrap when the version is.

    `method`: what computed it; another one ignores it. `names`: the signals, in order; `correlation`: one a signal; `start` and
    `length`: rows of the fast and the slow test, one number a signal and one for suspicion; `levels`: (run length, level) twice.
    `sha256`: of all this and of the reference it belongs to (`streams.stored_calibration`).
    """

    method: str
    names: tuple[str, ...]
    seed: int
    correlation: tuple[float, ...]
    start: tuple[tuple[float, ...], tuple[float, ...]]
    length: tuple[tuple[float, ...], tuple[float, ...]]
    levels: tuple[tuple[float, float], tuple[float, float]]
    sha256: str = ""


NO_CALIBRATION = msgspec.Raw(b"null")
"""In the manifest of a version that has none: older ones, and those whose reference is too small."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """An image kept in the artefact and what it must score (relative `tolerance`), to prove at load that nothing changed."""

    file: str
    peak: float
    bulk: float
    tolerance: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a version but its tensors. `files` maps each other file of the artefact to its SHA-256; `notes`:
    what the fit has to say to people, such as why it did not use 8 bits; `pixel_threshold`: for map values, of the rate of
    patches; `intruders`: training images that look bad, as multiples of the limit; `sigma`: patches that maps are smoothed by.
    These came later: a manifest that does not name them has none, and half a patch. `calibration`: a `DriftCalibration`, not read with
    the manifest: one that is broken, or of another program, must not keep a version from service. `snapshot`: the object key of the
    frozen training set of a retrain.
    """

    format: int = FORMAT
    line: str
    detector: str
    mode: str
    cause: str
    parameters: dict[str, int | float | str | bool]
    features: FeatureSpec
    threshold: Threshold
    reference: DriftReference
    golden: Golden
    training_keys: tuple[str, ...]
    left_out: dict[str, str]
    parent: int | None
    request_id: str | None
    created_at: float
    code_version: str
    metrics: dict[str, float]
    notes: tuple[str, ...] = ()
    pixel_threshold: Threshold | None = None
    intruders: dict[str, float] = {}
    sigma: float = 0.5
    calibration: msgspec.Raw = NO_CALIBRATION
    snapshot: str | None = None
    files: dict[str, str]


def read_manifest(data: bytes) -> Manifest:
    """The manifest in `data`; raises ArtifactError where it is none, or one of a format this code does not know."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"manifest.json cannot be read: {error}; publish the version again") from error
    if manifest.format != FORMAT:
        raise ArtifactError(
            f"manifest format {manifest.format}, this driftline reads {FORMAT}; install the version that wrote it"
        )
    return manifest
