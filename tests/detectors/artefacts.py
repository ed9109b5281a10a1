"""Small artefacts for tests of the registry, which looks at files and digests, not at what a model is."""

import hashlib

import msgspec

from detectors.manifest import DriftReference, FeatureSpec, Golden, Manifest, Threshold


def artefact(line: str, *, content: str = "tensors", request_id: str | None = None) -> dict[str, bytes]:
    """The files of an artefact whose tensors are `content`."""
    files = {"model.safetensors": content.encode(), "golden.png": b"golden"}
    manifest = Manifest(
        line=line,
        detector="patchcore",
        mode="trusted",
        cause="manual",
        parameters={},
        features=FeatureSpec(backbone="resnet18", layers=("layer2",), image_size=64, weights_sha256="00"),
        threshold=Threshold(value=2.5, false_alarm_rate=0.01, low=0.0, high=0.05, method="quantile", images=20),
        reference=DriftReference(peak=(1.0,), bulk=(1.0,), mean=(1.0,), contrast=(1.0,), sharpness=(1.0,)),
        golden=Golden(file="golden.png", peak=1.0, bulk=1.0, tolerance=1e-3),
        training_keys=("k",),
        left_out={},
        parent=None,
        request_id=request_id,
        created_at=1000.0,
        code_version="0.1.0",
        metrics={},
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    return files | {"manifest.json": msgspec.json.encode(manifest)}
