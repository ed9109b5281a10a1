"""A backbone compiled by OpenVINO, in full or in 8 bits. The only home of OpenVINO and NNCF.

Faster than torch on processors; 8 bits twice as fast again where the network bears it (`detectors.quantised` asks).

Shape legend: S image size, h x w patch grid of a square, D feature dimensions.
"""

import contextlib
import hashlib
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.errors import ArtifactError
from detectors.images import Image

CALIBRATION_IMAGES = 100
"""Squares at most that 8-bit ranges are taken from."""

_KEPT_WHOLE = ("AvgPool", "AdaptiveAvgPool", "Interpolate", "Concat", "Transpose")
"""Operations after the backbone: in 8 bits, joined layers would share one range, and small layers would vanish in it."""

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Not installed, as far as OpenVINO and NNCF can see, which else report conversions to their maker over the network
# without asking. What a line looks at is its owner's business.


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    structure: bytes
    weights: bytes


class CompiledNetwork:
    """Squares to patches by OpenVINO on the processor; threads may share it.

    `threads`: processor threads of one inference.
    """

    def __init__(self, model: Any, *, threads: int) -> None:
        import openvino  # here: seconds that torch users do not need

        self._model = model
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else 16 bits on processors that have them: a model would score elsewhere otherwise
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._threads = threads
        self._requests = threading.local()

    def __call__(self, square: Image) -> NDArray[np.float32]:
        """Patches `(h, w, D)` of one square, uint8 `(S, S, 3)`."""
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        patches_1hwD = self._requests.mine.infer({0: square[None]})[0]
        patches: NDArray[np.float32] = np.array(patches_1hwD[0])
        return patches

    def quantised(self, squares: Sequence[Image]) -> "CompiledNetwork":
        """The same network in 8 bits, its ranges taken from these squares (Nagel et al. 2021, post-training)."""
        import nncf  # here: seconds that only the making needs

        logging.getLogger("nncf").setLevel(logging.ERROR)  # set_log_level would also silence handlers of others
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):  # nncf draws bars on standard output
            warnings.simplefilter("ignore")
            made = nncf.quantize(
                self._model,
                nncf.Dataset(list(squares[:CALIBRATION_IMAGES]), lambda square: square[None]),
                subset_size=min(len(squares), CALIBRATION_IMAGES),
                ignored_scope=nncf.IgnoredScope(types=list(_KEPT_WHOLE), validate=False),
            )
        return CompiledNetwork(made, threads=self._threads)

    def to_bytes(self) -> bytes:
        """The network as data; `from_bytes` reads it."""
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.xml"
            openvino.save_model(self._model, path, compress_to_fp16=False)
            return msgspec.msgpack.encode(_Stored(path.read_bytes(), path.with_suffix(".bin").read_bytes()))

    @classmethod
    def from_bytes(cls, data: bytes, *, threads: int) -> "CompiledNetwork":
        """The network that `to_bytes` gave; raises ArtifactError for anything else."""
        import openvino

        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
            weights = openvino.Tensor(np.frombuffer(stored.weights, np.uint8))
            model = openvino.Core().read_model(stored.structure, weights)
        except (msgspec.DecodeError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0][:200]
            raise ArtifactError(f"an 8-bit network that cannot be read ({first}); publish the version again") from error
        return cls(model, threads=threads)


def compiled(module: Any, example: Any, *, threads: int) -> CompiledNetwork:
    """A torch module compiled for squares of the shape of `example`, a uint8 tensor `(1, S, S, 3)`."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which is what OpenVINO reads
        model = openvino.convert_model(module, example_input=example)
    model.reshape(list(example.shape))
    return CompiledNetwork(model, threads=threads)


def digest(network: bytes) -> str:
    """Identity of a stored network."""
    return hashlib.sha256(network).hexdigest()
