"""The example of a ResNet of one's own, on a small stand-in with random weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("resnet50_example", ROOT / "examples" / "resnet50.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Block(nn.Module):
    """Two convolutions with batch norm, and the way around them."""

    def __init__(self, width: int):
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.two(self.bn1(self.one(x)).relu()))).relu()


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stem = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_from_weights_to_a_verdict(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, images = small(1), np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), dtype=np.uint8)
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    result, curve = example.main(small(2), tmp_path / "weights.safetensors", images, eps=16, steps=5)

    x = torch.from_numpy(images) / 255
    assert ((result.x - x).abs().amax((1, 2, 3)) <= 16 / 255 * (1 + 1e-6)).all()
    assert result.x.min() >= 0
    assert result.x.max() <= 1
    assert_close(result.distance, (result.x - x).abs().amax((1, 2, 3)))

    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (example.MEAN, example.STD))
    trained.eval()
    with torch.no_grad():
        before, after = (trained((each - mean) / std).argmax(1) for each in (x, result.x))
    assert torch.equal(result.success, before != after)
    assert result.success.any()
    assert not curve.robust[result.success, -1].any()
    said = capsys.readouterr().out
    assert "robust accuracy" in said
    assert "16/255" in said
    assert f"Verdict: 100.0% right, {result.accuracy:.1%} once" in said


def test_photographs(example: Any, tmp_path: Path) -> None:
    for label, colour in ((3, (255, 0, 0)), (7, (0, 0, 255))):
        (tmp_path / str(label)).mkdir()
        Image.new("RGB", (300, 200), colour).save(tmp_path / str(label) / "one.png")
    x, y = example.photographs(tmp_path, side=32)
    assert x.shape == (2, 3, 32, 32)
    assert y.tolist() == [3, 7]
    assert x[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
