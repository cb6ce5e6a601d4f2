"""Folders of images, one folder for each class, which Pillow reads."""

import os
from pathlib import Path

import jax
import numpy as np

from ..algebra.sizes import check_fits, host_memory
from .encoding import Encoding
from .progress import stage

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
GREY = ("1", "L", "LA", "I;16", "I;16B", "I")  # Pillow's modes


def is_image(path: str | os.PathLike) -> bool:
    return Path(path).suffix.lower() in SUFFIXES


def image_files(path: str | os.PathLike) -> list[tuple[str | None, Path]]:
    """The images of a folder, each with the folder of its class or None if it lies in none; or the one image at the path."""
    path = Path(path)
    if path.is_file():
        return [(None, path)]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder")
    names = sorted(one.name for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    within = {name: [file for file in sorted((path / name).iterdir()) if is_image(file)] for name in names}
    found: list[tuple[str | None, Path]] = [(name, file) for name, files in within.items() for file in files]
    flat = [file for file in sorted(path.iterdir()) if is_image(file) and file.is_file()]
    if flat and found:
        raise ValueError(f"{path}: {flat[0].name} lies beside the folders of classes; move it into one of them")
    if not found and not flat:
        raise ValueError(f"{path}: no images in it, expected {path}/CLASS/*.png, *.jpg, …")
    if found and (empty := [name for name, files in within.items() if not files]):
        raise ValueError(f"{path}: the folder of the class {empty[0]!r} holds no image")
    return found or [(None, file) for file in flat]


def read_images(path, size: tuple[int, int] | None, encoding: Encoding | None):
    """The images [image, channel, height, width] from 0 to 1, their labels or None, and their encoding."""
    files = image_files(path)
    names = tuple(dict.fromkeys(name for name, _ in files if name is not None))
    if encoding is None:
        if not names:
            raise ValueError(f"{path}: images in no folders of classes, expected {path}/CLASS/*.png, *.jpg, …")
        encoding = _learned([file for _, file in files], size, names)
    elif unknown := [name for name in names if name not in (encoding.classes or ())]:
        raise ValueError(f"{path}: the folder {unknown[0]!r} is no known class; known: {', '.join(encoding.classes or ())}")
    channels, height, width = encoding.shape
    x_form = jax.ShapeDtypeStruct((len(files), *encoding.shape), np.float32)
    check_fits(f"{path}: {len(files)} images of {height}×{width}", x_form, host_memory)
    x = np.empty(x_form.shape, np.float32)
    first = None
    with stage(f"reading {path}", total=len(files), unit="image") as told:
        for i, (_, file) in enumerate(files):
            told.next_part(file.name)
            pixels = _pixels(file, channels, (height, width) if encoding.resized else None)
            if pixels.shape[1:] != (height, width):
                expected = f"{first} has {height}×{width}" if first else f"expected {height}×{width}"
                raise ValueError(
                    f"{file} has {pixels.shape[1]}×{pixels.shape[2]} pixels and {expected}; size=(height, width) "
                    "(--size HEIGHTxWIDTH) resizes all when a training begins"
                )
            x[i], first = pixels, first or file
    y = np.array([(encoding.classes or ()).index(name) for name, _ in files]) if names else None
    return x, y, encoding


def _learned(files: list[Path], size, names) -> Encoding:
    """Grey if all images are grey, else red, green and blue; of the size of the first one, unless one is given."""
    modes = set()
    with stage("looking for colours", total=len(files), unit="image") as told:
        for file in files:
            told.next_part(file.name)
            with _opened(file) as image:
                modes.add(image.mode)
    channels = 1 if modes <= set(GREY) else 3
    height, width = size or _pixels(files[0], channels, None).shape[1:]
    return Encoding("images", (channels, height, width), classes=names, resized=size is not None)


def _pixels(file: Path, channels: int, size: tuple[int, int] | None) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(file) as opened:
        try:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # of 16 bits
                image = Image.fromarray((np.asarray(image) / 257).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if size is not None:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32) / 255
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ValueError(f"{file}: no image that can be read: {error}") from None
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(file: Path):
    try:
        from PIL import Image
    except ImportError:
        raise ModuleNotFoundError(f"{file}: images need Pillow: pip install 'jaxnets[plot]'") from None
    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: no image that can be read: {str(error).splitlines()[0]}") from None
