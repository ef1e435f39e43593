"""Take images as users pass them: paths, bytes, file objects, Pillow images, arrays, tensors; one or many."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders.images import convert_pixels, encode_pixels, read_image_bytes
from asif.encoders.protocol import ImageInput, ImageInputs, ImageSource
from asif.errors import BadImage, UsageError

_MAX_BYTES = 256 * 2**20
_KINDS = "a path, bytes, a binary file object, a Pillow image, or uint8 pixels (H, W, 3) or (H, W)"


def iter_images(images: ImageInputs) -> Iterator[ImageInput]:
    """Iterate over images; a single one is one image, an array [n, h, w, 3] is n.

    Raises UsageError, at once, for what is neither an image nor an iterable of images.

    >>> list(iter_images("cat.jpg")), list(iter_images(["cat.jpg", b"..."]))
    (['cat.jpg'], ['cat.jpg', b'...'])
    """
    if _is_one_image(images):
        return iter((images,))  # type: ignore[arg-type]
    if images is None or isinstance(images, Mapping) or hasattr(images, "iterrows") or not _is_iterable(images):
        raise UsageError(f"the images are {_describe(images)}", f"one image or several: each {_KINDS}", "pass a list")
    several: Iterable[ImageInput] = images  # type: ignore[assignment]
    return iter(several)


def take_image(source: ImageInput) -> Any:
    """Take one image in this thread, so that its file, array or Pillow image may change or close afterwards.

    Returns bytes, a path, or an RGB image of Pillow: what `ImageEncoder.prepare` takes. Raises BadImage for None and
    for what cannot be read, UsageError for anything that is not an image.
    """
    encoded = _take_encoded(source)
    return convert_pixels(_take_pixels(source)) if encoded is None else encoded


def take_image_file(source: ImageInput) -> ImageSource:
    """Take one image as `take_image` does, as an encoded file: pixels become a PNG."""
    encoded = _take_encoded(source)
    return encode_pixels(_take_pixels(source)) if encoded is None else encoded


def name_image(source: ImageInput) -> str:
    """Name an image for people: its path, or what it is.

    >>> name_image(Path("a/cat.jpg")), name_image(b"..."), name_image(np.zeros((4, 6, 3), np.uint8))
    ('a/cat.jpg', 'bytes', 'ndarray uint8 (4, 6, 3)')
    """
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    for attribute in ("filename", "name"):  # of images opened by Pillow, of files
        named = getattr(source, attribute, None)
        if isinstance(named, str) and named:
            return named
    return _describe(source)


def _take_encoded(source: Any) -> ImageSource | None:
    """Return encoded images as bytes or as a path; None for pixels."""
    if isinstance(source, str | bytes | Path):
        return source
    if isinstance(source, os.PathLike):
        return Path(os.fsdecode(source))
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if source is None:
        raise BadImage("None instead of an image", _KINDS, "leave it out, or check why reading it gave None")
    if _is_pillow(source):
        return None
    if _is_file(source):
        return _read_file_object(source)
    if hasattr(source, "open"):
        return read_image_bytes(source)
    return None


def _take_pixels(source: Any) -> Any:
    """Return an opened Pillow image as it is, pixels as an array [h, w, 3] or [h, w]; raises UsageError for others."""
    if _is_pillow(source):
        return source
    shape, kind = tuple(getattr(source, "shape", ())), str(getattr(source, "dtype", ""))
    if not hasattr(source, "__array__") or len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        advice = (
            "permute channels to the end" if len(shape) == 3 and shape[0] in (1, 3) else "convert it to one of these"
        )
        raise UsageError(f"an image is {_describe(source)}", _KINDS, advice)
    if kind.rpartition(".")[2] != "uint8":
        raise UsageError(f"an image is {_describe(source)}", _KINDS, "scale it to 0..255 and convert it to uint8")
    array = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    return array[..., 0] if shape[2:] == (1,) else array


def _read_file_object(file: Any) -> bytes:
    """Read a binary file object from its beginning, or from where it is if it cannot seek."""
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)
        content = file.read(_MAX_BYTES + 1)
    except Exception as error:  # objects of any library
        raise BadImage(
            f"a file object that cannot be read ({type(error).__name__}: {error})", "an open file", "open it again"
        ) from error
    if not isinstance(content, bytes):
        raise UsageError(
            f"a file object {name_image(file)} whose read() gives {type(content).__name__}",
            "a file object that gives bytes",
            "open the file with mode 'rb'",
        )
    return content


def _is_one_image(value: Any) -> bool:
    """Tell whether a value is one image, of a known kind or not."""
    if isinstance(value, str | bytes | bytearray | memoryview | os.PathLike) or _is_pillow(value) or _is_file(value):
        return True
    return getattr(value, "ndim", None) in (0, 2, 3) and not hasattr(value, "iterrows")


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")


def _is_file(value: Any) -> bool:
    return callable(getattr(value, "read", None))


def _is_pillow(value: Any) -> bool:
    """Tell whether a value is an image of Pillow, without importing it."""
    pillow: Any = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _describe(value: Any) -> str:
    """Describe a value by its type, and by dtype and shape, or its size, if it has them.

    >>> _describe(np.zeros(3)), _describe(7)
    ('ndarray float64 (3,)', 'int 7')
    """
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} {value.dtype} {tuple(value.shape)}"
    if _is_pillow(value):
        return f"{kind} {value.mode} {value.width}x{value.height}"
    if isinstance(value, bool | int | float):
        return f"{kind} {value!r}"
    return f"{kind} of {len(value)}" if isinstance(value, Mapping | list | tuple) else kind
