"""Decode images within limits: known formats only, bounded in bytes, pixels and shape, always to RGB.

The door to Pillow. The header is checked first, so an image that declares too much is refused before its pixels are
allocated.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.encoders.protocol import ImageSource, ReadableFile
from asif.errors import BadImage

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
_MAX_ASPECT = 100
_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS: dict[Any, str] = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""The transposition that undoes each EXIF orientation."""
PILLOW_MODULES = r"PIL\."
DECODER_VERSION = "pillow-rgb-1"
"""Part of fingerprints; changes whenever the pixels that `decode_image` returns may change."""


def decode_image(source: ImageSource) -> Image.Image:
    """Decode to RGB: first frame, EXIF orientation applied, transparency laid on white, 16 bits scaled to 8.

    Raises BadImage for anything but a complete image of a known format within the limits
    (256 MiB, 100 million pixels, sides in proportion up to 1:100).
    """
    from PIL import Image, UnidentifiedImageError

    content = read_image_bytes(source)
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(*image.size)
            image.seek(0)
            image.load()
            return _to_rgb(_apply_orientation(image))
    except (BadImage, MemoryError):  # too little memory says nothing about the image
        raise
    except UnidentifiedImageError:
        raise _bad_image(f"{len(content)} bytes that are no {', '.join(_FORMATS)}") from None
    except Image.DecompressionBombError:
        raise _bad_image("an image that declares too many pixels") from None
    except Exception as error:  # Pillow's plugins raise errors of any type for a broken file
        raise _bad_image(f"an image that cannot be decoded ({type(error).__name__}: {error})") from error


def read_image_bytes(source: ImageSource | ReadableFile) -> bytes:
    """Read the encoded image, at most MAX_BYTES of it."""
    content = source if isinstance(source, bytes) else _read_file(Path(source) if isinstance(source, str) else source)
    if not content:
        raise _bad_image("0 bytes")
    if len(content) > _MAX_BYTES:
        raise _bad_image(f"more than {_MAX_BYTES} bytes")
    return content


def _read_file(path: ReadableFile) -> bytes:
    """Read a file, one byte more than allowed at most."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _bad_image(f"a file that cannot be read ({error})") from error


def _check_size(width: int, height: int) -> None:
    """Refuse images that would take too much memory, as they are or once resized by their short side."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise _bad_image(f"an image of {width}x{height} pixels")
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise _bad_image(f"an image of {width}x{height} pixels, a strip")


def _silence_pillow() -> None:
    """Silence Pillow's warnings permanently: `warnings.catch_warnings` is not safe in several threads."""
    if not any(getattr(module, "pattern", None) == PILLOW_MODULES for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=PILLOW_MODULES)


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; damaged metadata is ignored."""
    from PIL import Image

    try:
        turn = _TRANSPOSITIONS.get(image.getexif().get(_ORIENTATION_TAG))
    except Exception:  # damaged metadata, for which Pillow raises errors of any type
        return image
    return image if turn is None else image.transpose(Image.Transpose[turn])


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, the same way every time."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def to_8_bits(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scale 16-bit greys to 8 bits; raises BadImage for floating point and for values outside 0..65535."""
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise _bad_image(f"an image of {pixels.dtype} values from {pixels.min()} to {pixels.max()}")
    rounded = pixels.astype(np.uint32)
    rounded += 128
    rounded //= 257
    return rounded.astype(np.uint8)


def _bad_image(came: str) -> BadImage:
    """Return the error for an unusable image."""
    return BadImage(
        came,
        f"a {', '.join(_FORMATS)} of at most {MAX_PIXELS:,} pixels, no longer than 1:{_MAX_ASPECT}",
        "repair or leave out this image",
    )


def make_thumbnail(source: ImageSource, side: int = 96) -> bytes:
    """Make a JPEG whose longer side has at most `side` pixels; raises BadImage as `decode_image` does."""
    image = decode_image(source)
    image.thumbnail((side, side))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=70, optimize=True)
    return small.getvalue()
