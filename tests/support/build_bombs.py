"""Decode images that declare far more than they hold, in little memory; run by test_images.py.

Prints one JSON object per image: its name, the number of its bytes, and what came of it.
"""

from __future__ import annotations

import json
import resource
import sys
import zlib
from pathlib import Path

from support.build_images import (
    DEFLATE,
    RAW,
    bmp,
    chunk,
    gif_declaring,
    jpeg_declaring,
    png,
    random_png,
    tiff_strip,
    tiff_tile,
    webp_canvas,
    webp_lossless,
)

from asif.encoders.images import decode_image
from asif.errors import BadImage

HUGE = 60_000
ZEROS = zlib.compress(b"\0" * 100_000_000)
SPARE = 400 << 20


def text_chunks() -> bytes:
    """Keep each text below Pillow's limit, and all of them far above it."""
    return b"".join(chunk(b"zTXt", b"k%d\0\0" % at + zlib.compress(b"a" * 1_000_000)) for at in range(500))


BOMBS = {
    "png": png(HUGE, HUGE),
    "png, largest": png(2**31 - 1, 2**31 - 1),
    "png, text": png(4, 4, extra=chunk(b"zTXt", b"k\0\0" + ZEROS)),
    "png, international text": png(4, 4, extra=chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)),
    "png, colour profile": png(4, 4, extra=chunk(b"iCCP", b"k\0\0" + ZEROS)),
    "png, many texts": png(4, 4, extra=text_chunks()),
    "gif, screen": gif_declaring((HUGE, HUGE), []),
    "gif, first frame": gif_declaring((4, 4), [(HUGE, HUGE)]),
    "gif, frame just above the limit": gif_declaring((4, 4), [(10_001, 10_000)]),
    "tiff": tiff_strip(HUGE, HUGE, RAW, HUGE, 10),
    "tiff, deflate": tiff_strip(HUGE, HUGE, DEFLATE, HUGE, len(ZEROS), ZEROS),
    "tiff, largest": tiff_strip(2**32 - 1, 2**32 - 1, DEFLATE, HUGE, 10),
    "tiff, bytes": tiff_strip(4, 4, RAW, 4, 2**32 - 1),
    "tiff, tile": tiff_tile(4, 4, DEFLATE, 59_904, ZEROS),
    "tiff, tile of a gigabyte": tiff_tile(4, 4, DEFLATE, 17_920, ZEROS),
    "bmp": bmp(HUGE, HUGE),
    "bmp, upside down": bmp(HUGE, -HUGE),
    "bmp, largest": bmp(2**31 - 1, 2**31 - 1),
    "webp, canvas": webp_canvas(16_384, 16_384),
    "webp, lossless": webp_lossless(16_384, 16_384),
    "jpeg": jpeg_declaring(65_500, 65_500),
}

HARMLESS = {
    "png, pixels": png(4, 4, pixels=b"\0" * 100_000_000),
    "gif, second frame": gif_declaring((4, 4), [(4, 4), (HUGE, HUGE)]),
    "tiff, bytes of deflate": tiff_strip(4, 4, DEFLATE, 4, 2**32 - 1, ZEROS),
}
"""Lies about what is never read."""


def outcome(content: bytes) -> str:
    try:
        return f"decoded to {decode_image(content).size}"
    except BadImage as error:
        return f"BadImage: {error.came}"
    except BaseException as error:
        return repr(error)


if __name__ == "__main__":
    decode_image(random_png(0))  # Pillow's plugins are loaded before the memory is measured
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)
    for name, content in (BOMBS | HARMLESS).items():
        line = {"name": name, "bytes": len(content), "outcome": outcome(content)}
        sys.stdout.write(json.dumps(line) + "\n")
