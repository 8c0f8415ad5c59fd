"""A folder of images, a class a sub-folder or none, read with Pillow into one uint8 tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.basis.noise import generator
from psiphi.data._guard import check_size, reading
from psiphi.data._raw import Raw

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 64 << 20  # an image: more is a mistake or a decompression bomb
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = {"1", "L", "I;16", "I;16B", "I;16L"}
_TRAIN, _TEST = {"train", "training"}, {"test", "testing"}


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_images(folder: Path, *, size: Any = None, channels: int | None = None) -> Raw:
    """Images as uint8 (n, channels, h, w), a class a sub-folder; `train` and `test` sub-folders are the
    splits.

    size: an integer or (h, w), to which each image is resized; channels: 1, 3 or 4 (grey if all are, else
    RGB).
    Errors: `DataError` when sizes differ (names two files), `FileError` for one that is corrupt or cut short.
    """
    wanted = _wanted(size)
    if channels not in (None, *_MODES):
        raise ArgumentError(f"channels is {channels!r}; 1 (grey), 3 (RGB) or 4 (RGBA) is needed.")
    folders = {p.name.lower(): p for p in folder.iterdir() if p.is_dir()}
    train = next((folders[name] for name in _TRAIN if name in folders), None)
    test = next((folders[name] for name in _TEST if name in folders), None)
    roots = [train, test] if train and test else [folder]
    found = [_list(root) for root in roots]
    classes = found[0][1]
    if any(names != classes for _, names in found):
        raise DataError(
            f"{roots[0]} and {roots[-1]} have other sub-folders; the same classes are needed in both."
        )
    files = [path for group, _ in found for path, _ in group]
    heads = [_head(path) for path in files]
    if channels is None:
        channels = 1 if all(mode in _GREY for _, mode in heads) else 3
    if wanted is None:
        wanted = heads[0][0]
        for path, (other, _) in zip(files, heads):
            if other != wanted:
                raise DataError(
                    f"{files[0]} is {wanted[0]}x{wanted[1]} and {path} is {other[0]}x{other[1]} (height x "
                    f"width); one size is needed: give size=({wanted[0]}, {wanted[1]}) to resize, or write "
                    f"{folder}:size={wanted[0]}x{wanted[1]}."
                )
    check_size(
        len(files) * channels * wanted[0] * wanted[1], folder, "give a smaller size=, or a torch data set"
    )
    parts, named = [], []
    for group, _ in found:
        # Classes lie one after the other in folders; a fixed shuffle makes any first rows a fair sample.
        order = torch.randperm(len(group), generator=generator("images", len(group))).tolist()
        group = [group[i] for i in order]
        x = torch.from_numpy(np.stack([_pixels(path, wanted, channels) for path, _ in group]))
        y = torch.tensor([label for _, label in group]) if classes else None
        parts.append((x, y))
        named.append([path.relative_to(folder).as_posix() for path, _ in group])
    x, y = parts[0]
    files = (named[0], named[1] if len(named) == 2 else [])
    return Raw(x, y, parts[1] if len(parts) == 2 else None, classes, files=files)


def _wanted(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else size
    if (
        not isinstance(pair, Sequence)
        or len(pair) != 2
        or not all(isinstance(n, int) and 0 < n <= 8192 for n in pair)
    ):
        raise ArgumentError(
            f"size is {size!r}; a height and a width in pixels are needed, e.g. size=(32, 32)."
        )
    return int(pair[0]), int(pair[1])


def _list(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images and their labels (−1 without classes), and the classes."""
    top = sorted(p for p in folder.iterdir() if is_image(p))
    inside = {
        child.name: sorted(p for p in child.iterdir() if is_image(p))
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    }
    inside = {name: files for name, files in inside.items() if files}
    if top and inside:
        raise DataError(
            f"{folder} has {len(top)} images beside sub-folders of images ({', '.join(list(inside)[:3])}); "
            "put every image into the sub-folder of its class, or none."
        )
    if not top and not inside:
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}), directly or in sub-folders: name "
            "another folder."
        )
    if top:
        return [(path, -1) for path in top], []
    return [(path, k) for k, files in enumerate(inside.values()) for path in files], list(inside)


def _head(path: Path) -> tuple[tuple[int, int], str]:
    from PIL import Image

    with reading(path, "an image"), Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise FileError(
                f"{path} claims {width}x{height} pixels; at most {MAX_PIXELS} are read: resize it."
            )
        if image.mode in ("I", "F"):
            raise DataError(
                f"{path} has 32 bits a pixel (mode {image.mode}), whose range is unknown: save it as .npy."
            )
        return (height, width), image.mode


def _pixels(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    from PIL import Image

    with reading(path, "an image"), Image.open(path, formats=FORMATS) as image:
        image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
        if "transparency" in image.info and channels < 4:
            image = image.convert("RGBA")
        image = image.convert(_MODES[channels])
        if image.size != (size[1], size[0]):
            image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
