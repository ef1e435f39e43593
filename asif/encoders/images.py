"""Decode images within limits: known formats only, bounded in bytes, pixels and shape, always to RGB.

The door to Pillow. The header is checked first, so an image that declares too much is refused before its pixels are
allocated.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from asif.encoders.protocol import ImageSource, ReadableFile
from asif.errors import BadImage

if TYPE_CHECKING:
    from PIL import Image

_Result = TypeVar("_Result")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ISO_MARK = b"ftyp"
"""Bytes 4 to 8 of every AVIF and HEIC file."""
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_MAX_REASON = 200
_BAND_PIXELS = 1 << 20
_MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
_MAX_ASPECT = 100
_PNG_MODES = ("1", "L", "LA", "RGB", "RGBA")
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
"""Part of fingerprints; changes whenever the pixels that `decode_image` returns may change.

Before the first release greys of more than 8 bits were divided by 257, whatever their depth: those of 12 bits came out
all but black. `to_8_bits` returns the same pixels as then for all whose values need 15 or 16 bits; sets of other such
greys are to be built again, as no release had this name before.
"""


def decode_image(source: ImageSource) -> Image.Image:
    """Decode to RGB: first frame, EXIF orientation applied, transparency laid on white, greys scaled by their range.

    AVIF is decoded where Pillow can, HEIC where pillow-heif is installed.
    Raises BadImage for anything but a complete image of a known format within the limits
    (256 MiB, 100 million pixels, sides in proportion up to 1:100).
    """
    from PIL import Image

    if isinstance(source, Image.Image):
        return convert_pixels(source)

    def decode(image: Image.Image) -> Image.Image:
        image.seek(0)
        image.load()
        return _to_rgb(_apply_orientation(image))

    return _open_image(read_image_bytes(source), decode)


def decode_pixels(source: ImageSource) -> Image.Image:
    """Decode as `decode_image` does, without metadata: what decodes the result again gives the same pixels."""
    return _without_metadata(decode_image(source))


def measure_image(source: bytes) -> tuple[int, int]:
    """Return the width and height that an image file declares, without decoding; raises BadImage as `decode_image`."""
    return _open_image(read_image_bytes(source), lambda image: image.size)


def _open_image(content: bytes, use: Callable[[Image.Image], _Result]) -> _Result:
    """Open an image file within the limits and use it; errors of Pillow become BadImage."""
    from PIL import Image, UnidentifiedImageError

    _silence_pillow()
    formats = _list_formats() if content[4:8] == _ISO_MARK else _FORMATS  # pillow-heif takes time to import
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _check_size(*image.size)
            return use(image)
    except (BadImage, MemoryError):  # too little memory says nothing about the image
        raise
    except UnidentifiedImageError:
        raise _unknown_format(content) from None
    except Image.DecompressionBombError:
        raise _bad_image("an image that declares too many pixels") from None
    except Exception as error:  # Pillow's plugins raise errors of any type for a broken file
        raise _bad_image(f"an image that cannot be decoded ({type(error).__name__}: {_shorten(error)})") from error


@cache
def _list_formats() -> tuple[str, ...]:
    """Return the formats that can be decoded here: AVIF needs a Pillow with it, HEIF the package pillow-heif."""
    from PIL import features

    formats: tuple[str, ...] = _FORMATS
    if "avif" in features.modules and features.check("avif"):
        formats += ("AVIF",)
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        formats += ("HEIF",)
    return formats


def _unknown_format(content: bytes) -> BadImage:
    """Return the error for bytes in no known format; HEIC and AVIF are named, with what to install."""
    brands = {content[at : at + 4] for at in (8, *range(16, 64, 4))} if content[4:8] == _ISO_MARK else set()
    for name, form, known, install in (
        ("AVIF", "AVIF", _AVIF_BRANDS, "pip install -U pillow"),
        ("HEIC", "HEIF", _HEIF_BRANDS, "pip install 'asif-engine[heif]'"),
    ):
        if brands & known and form not in _list_formats():
            return BadImage(f"{name}, which cannot be decoded here", _describe_formats(), f"{install}, or convert it")
    return _bad_image(f"{len(content)} bytes that are no {', '.join(_list_formats())}")


def _shorten(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}…"


def convert_pixels(pixels: Any) -> Image.Image:
    """Convert an image opened by Pillow, or uint8 pixels [h, w, 3] or [h, w], to the RGB that its file decodes to.

    A copy is returned. Raises BadImage for sizes outside the limits, and for an image that Pillow cannot read.
    """
    return _without_metadata(_to_rgb(_load_upright(pixels)))


def encode_pixels(pixels: Any) -> bytes:
    """Encode what `convert_pixels` takes as a file that decodes to the same RGB: as PNG.

    An image that Pillow has opened but not read yet gives the bytes of its file.
    """
    original = _read_unread_file(pixels)
    if original is not None:
        return original
    upright = _load_upright(pixels)
    as_it_is = upright.mode in _PNG_MODES and "transparency" not in upright.info
    content = io.BytesIO()
    _without_metadata(upright.copy() if as_it_is else _to_rgb(upright)).save(content, "PNG")
    return content.getvalue()


def _load_upright(pixels: Any) -> Image.Image:
    """Read the pixels of an opened image, or take those of an array, and apply the EXIF orientation."""
    from PIL import Image

    _silence_pillow()
    try:
        width, height = pixels.size if isinstance(pixels, Image.Image) else pixels.shape[1::-1]
        _check_size(width, height)
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.load()
        return _apply_orientation(image)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise errors of any type for a broken or closed file
        raise _bad_image(f"a Pillow image that cannot be read ({type(error).__name__}: {error})") from error


def _without_metadata(image: Image.Image) -> Image.Image:
    """Drop the metadata, whose orientation has been applied, so that it is not applied again."""
    image.info = {}
    return image


def _read_unread_file(image: Any) -> bytes | None:
    """Return the file behind an opened image of a known format whose pixels nobody has read or changed; or None."""
    from PIL import Image

    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.format not in _FORMATS or image.tell():
        return None
    try:
        place = file.tell()
        file.seek(0)
        content: bytes = file.read(_MAX_BYTES + 1)
        file.seek(place)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as again:
            return content if (again.format, again.mode, again.size) == (image.format, image.mode, image.size) else None
    except Exception:  # files and plugins raise errors of any type; the pixels may still be read
        return None


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
        raise _bad_image(f"a file that cannot be read ({_shorten(error)})") from error


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
    """Scale greys [h, w] of any depth to 8 bits by their range; raises BadImage for NaN and infinite values.

    The range is 0 to 1 for floating point up to 1. Otherwise it is 0 to the largest value of the smallest even number
    of bits, at least 8, that holds all values: 255, 1,023, 4,095, 16,383, 65,535, …. With negative values it is that
    from the smallest to the largest.

    >>> to_8_bits(np.array([[0, 2048, 4095]], np.uint16)), to_8_bits(np.array([[-1000, 0, 1000]]))
    (array([[  0, 128, 255]], dtype=uint8), array([[  0, 128, 255]], dtype=uint8))
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _bad_image(f"an image of {pixels.dtype} values from {low} to {high}")
    if low >= 0:
        low, high = 0.0, _find_full_scale(high, pixels.dtype.kind == "f")
    scaled = np.empty(pixels.shape, np.uint8)
    step = max(1, _BAND_PIXELS // pixels.shape[1])
    for row in range(0, len(pixels), step):
        band = pixels[row : row + step].astype(np.float64) - low
        band *= 255
        band /= high - low or 1
        scaled[row : row + step] = np.rint(band)
    return scaled


def _find_full_scale(largest: float, is_float: bool) -> float:
    """Return the value that becomes white."""
    if is_float and largest <= 1:
        return 1.0
    bits = math.ceil(largest).bit_length()
    return float((1 << max(8, bits + bits % 2)) - 1)


def _describe_formats() -> str:
    return f"a {', '.join(_list_formats())} of at most {MAX_PIXELS:,} pixels, no longer than 1:{_MAX_ASPECT}"


def _bad_image(came: str) -> BadImage:
    """Return the error for an unusable image."""
    return BadImage(came, _describe_formats(), "repair or leave out this image")


def make_thumbnail(source: ImageSource, side: int = 96) -> bytes:
    """Make a JPEG whose longer side has at most `side` pixels; raises BadImage as `decode_image` does."""
    return _shrink(source, side, "JPEG", quality=70, optimize=True)


def make_webp_thumbnail(source: ImageSource, side: int = 128) -> bytes:
    """Make a WebP image whose longer side has at most `side` pixels; raises BadImage as `decode_image` does."""
    return _shrink(source, side, "WEBP", quality=70)


def _shrink(source: ImageSource, side: int, form: str, **parameters: Any) -> bytes:
    image = decode_image(source)
    image.thumbnail((side, side))
    small = io.BytesIO()
    image.save(small, form, **parameters)
    return small.getvalue()
