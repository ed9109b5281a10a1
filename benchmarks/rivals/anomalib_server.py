"""anomalib's bare torch models, asked by lines of JSON on standard input: runs in a virtual environment of its own.

Imports nothing of driftline. Every answer says how many seconds the work took; loading and talking do not count.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image
from torchvision.transforms.v2 import Compose, Normalize, Resize, ToDtype, ToImage

PREPARE = Compose(
    [
        ToImage(),
        Resize((256, 256), antialias=True),
        ToDtype(torch.float32, scale=True),
        Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


class Server:
    """One model at a time."""

    def __init__(self) -> None:
        self.model: torch.nn.Module
        self.embedding: torch.Tensor

    def fit(self, kind: str, paths: list[str], weights: str) -> dict[str, object]:
        """Fit a PaDiM on images; make a PatchCore that has seen them and has no memory bank yet."""
        make = PatchcoreModel if kind == "patchcore" else PadimModel
        self.model = make(backbone="resnet18", layers=["layer2", "layer3"], pre_trained=False)
        state = torch.load(weights)
        self.model.feature_extractor.load_state_dict(
            {f"feature_extractor.{name}": value for name, value in state.items()}, strict=False
        )
        self.model.train()
        self.model.feature_extractor.eval()
        with torch.no_grad():
            seen = [self.model(_read(path)) for path in paths]
        if kind == "patchcore":
            self.embedding = torch.cat([each.reshape(-1, each.shape[-1]) for each in seen])
        else:
            self.model.fit()
            self.model.eval()
        return {}

    def embeddings(self, file: str) -> dict[str, object]:
        """The features of all training patches, kept in a file."""
        np.save(file, self.embedding.numpy())
        return {}

    def bank(self, file: str) -> dict[str, object]:
        """Take the rows of the features whose numbers are in a file as the memory bank."""
        self.model.memory_bank = self.embedding[torch.from_numpy(np.load(file))].contiguous()
        self.model.eval()
        return {}

    def score(self, path: str, file: str | None = None) -> dict[str, object]:
        """From an image file to score and anomaly map, which `file` is to keep."""
        start = time.perf_counter()
        with torch.inference_mode():
            found = self.model(_read(path))
        seconds = time.perf_counter() - start
        if file is not None:
            np.save(file, found.anomaly_map.reshape(256, 256).numpy())
        return {"seconds": seconds, "score": float(found.pred_score.reshape(-1)[0])}

    def coreset(self, file: str, rows: int) -> dict[str, object]:
        """Greedy coreset of the embeddings in a file; the picks are kept beside it."""
        embeddings = torch.from_numpy(np.load(file))
        start = time.perf_counter()
        picked = KCenterGreedy(embedding=embeddings, sampling_ratio=rows / len(embeddings)).select_coreset_idxs()
        seconds = time.perf_counter() - start
        np.save(file + ".picked.npy", np.asarray([int(each) for each in picked]))
        return {"seconds": seconds}


def _read(path: str) -> torch.Tensor:
    return PREPARE(Image.open(Path(path)).convert("RGB"))[None]


def main() -> None:
    """Answer until standard input ends."""
    torch.set_num_threads(1)
    answers, server = sys.stdout, Server()
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            asked = json.loads(line)
            answer = getattr(server, asked.pop("do"))(**asked)
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
