"""A ResNet-50 of yours, from its weights to a verdict: does its answer stand a change of 4/255 a pixel?

    python examples/resnet50.py resnet50.safetensors photographs/

The weights are a state dictionary with torchvision's names, which timm's files share. The photographs lie in a
folder, or in one folder a class, named by the class's number; without numbers the network's own answers stand for
the truth. Without torchvision, call `main(model, weights, images, labels)` with any module.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import psiphi as pp

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, a channel
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


def main(model=None, weights=None, images=None, labels=None, eps=4, steps=20):
    """Attack `images` (B, 3, H, W), uint8 or in [0, 1]; `eps` in 255ths. Returns the result and the curve."""
    model = model or untrained()
    if weights:
        model.load_state_dict(load_file(weights))
    access = pp.access.white_box(model.eval(), bounds=(0, 1), mean=MEAN, std=STD)

    attack = pp.attacks.pgd(pp.attacks.Linf(eps / 255), steps=steps)
    result = attack(access, images, labels)
    curve = attack.curve(access, images, labels, eps=[eps / 255 * share for share in (0.125, 0.25, 0.5, 1)])

    print(result.summary())
    for radius, accuracy in zip(curve.eps, curve.accuracy):
        print(f"  accuracy at {255 * radius:.2g}/255     {accuracy:.1%}")
    before, after = f"{result.clean_accuracy:.1%}", f"{result.accuracy:.1%}"
    print(
        f"Verdict: {before} right, {after} once every pixel may change by {eps}/255. Stronger attacks may find more."
    )
    return result, curve


def untrained():
    """torchvision's ResNet-50, with random weights."""
    try:
        from torchvision.models import resnet50
    except ImportError:
        sys.exit(
            "torchvision is not installed: pip install torchvision, or call main(model=...) with your own."
        )
    return resnet50()


def photographs(folder, side=224):
    """Every picture under `folder`, its middle square, (B, 3, side, side) uint8; labels if folders have numbers."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURES)
    pages = []
    for path in paths:
        with Image.open(path) as picture:
            scale = 256 / 224 * side / min(picture.size)
            size = [round(scale * length) for length in picture.size]
            picture = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        left, top = ((length - side) // 2 for length in picture.size)
        pages.append(np.asarray(picture.crop((left, top, left + side, top + side))))
    names = [path.parent.name for path in paths]
    labels = torch.tensor([int(name) for name in names]) if all(map(str.isdigit, names)) else None
    return torch.from_numpy(np.stack(pages)).permute(0, 3, 1, 2), labels


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(None, sys.argv[1], *photographs(sys.argv[2]))
