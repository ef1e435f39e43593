"""Decode images within limits: known formats only, bounded in bytes, pixels and shape, always to RGB.

The door to Pillow. The header is looked at first, so an image that declares too much is refused before its pixels are
allocated.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.encoders.protocol import ImageSource, Readable
from asif.errors import BadImage

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
MAX_ASPECT = 100
ORIENTATION = 0x0112
TURNS: dict[Any, str] = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What brings an image with each EXIF orientation upright."""
QUIET = r"PIL\."
DECODER = "pillow-rgb-1"
"""Named in fingerprints: changes whenever the pixels that come out of `decode` may change."""


def decode(source: ImageSource) -> Image.Image:
    """Decode to RGB: first frame, EXIF orientation applied, transparency laid on white, 16 bits scaled to 8.

    Raises BadImage for anything that is not a whole image of a known format within the limits
    (256 MiB, 100 million pixels, sides in proportion up to 1:100).
    """
    from PIL import Image, UnidentifiedImageError

    content = read_bytes(source)
    hush()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(*image.size)
            image.seek(0)
            image.load()
            return to_rgb(upright(image))
    except (BadImage, MemoryError):  # too little memory says nothing about the image
        raise
    except UnidentifiedImageError:
        raise refused(f"{len(content)} bytes that are no {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise refused("an image that declares too many pixels") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken file makes them: each is a refusal here
        raise refused(f"an image that cannot be decoded ({type(error).__name__}: {error})") from error


def read_bytes(source: ImageSource | Readable) -> bytes:
    """Read the encoded image, at most MAX_BYTES of it."""
    content = source if isinstance(source, bytes) else read_file(Path(source) if isinstance(source, str) else source)
    if not content:
        raise refused("0 bytes")
    if len(content) > MAX_BYTES:
        raise refused(f"more than {MAX_BYTES} bytes")
    return content


def read_file(path: Readable) -> bytes:
    """Read a file, one byte more than allowed at most."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refused(f"a file that cannot be read ({error})") from error


def check_size(width: int, height: int) -> None:
    """Refuse images that would take too much memory, as they are or once resized by their short side."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise refused(f"an image of {width}x{height} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise refused(f"an image of {width}x{height} pixels, a strip")


def hush() -> None:
    """Silence Pillow's warnings, for good: `warnings.catch_warnings` in several threads leaves all others off too."""
    if not any(getattr(module, "pattern", None) == QUIET for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=QUIET)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says; damaged metadata is no reason to refuse whole pixels."""
    from PIL import Image

    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # whatever damaged metadata makes Pillow raise, it names no orientation
        return image
    return image if turn is None else image.transpose(Image.Transpose[turn])


def to_rgb(image: Image.Image) -> Image.Image:
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
    """Scale 16-bit greys to 8 bits; refuse what is no picture (floating point, values outside 0..65535)."""
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise refused(f"an image of {pixels.dtype} values from {pixels.min()} to {pixels.max()}")
    rounded = pixels.astype(np.uint32)
    rounded += 128
    rounded //= 257
    return rounded.astype(np.uint8)


def refused(came: str) -> BadImage:
    """Say what came instead of an image."""
    return BadImage(
        came,
        f"a {', '.join(FORMATS)} of at most {MAX_PIXELS:,} pixels, no longer than 1:{MAX_ASPECT}",
        "repair or leave out this image",
    )


def thumbnail(source: ImageSource, side: int = 96) -> bytes:
    """Make a JPEG whose longer side has at most `side` pixels; raises BadImage as `decode` does."""
    image = decode(source)
    image.thumbnail((side, side))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=70, optimize=True)
    return small.getvalue()
