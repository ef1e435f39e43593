"""Encoded images for tests: ordinary ones made with Pillow, damaged and lying ones made by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def encoded(image: Image.Image | NDArray[Any], form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def random_png(seed: int, height: int = 12, width: int = 16) -> bytes:
    """Make a small picture; equal seeds give equal bytes."""
    return encoded(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), "PNG")


def tiles(seed: int, rows: int = 2, columns: int = 3) -> Pixels:
    """Draw flat squares of 8 by 8, which even JPEG keeps."""
    colours = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, extra: bytes = b"", depth: int = 8, colour: int = 2, pixels: bytes = b"\0"
) -> bytes:
    """Write a PNG by hand: `colour` 0 is grey, 2 RGB; `pixels` are its rows, each after a filter byte."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(tags: Iterable[tuple[int, list[int]]], data: bytes = b"") -> bytes:
    """Write a TIFF by hand: one directory of tags, whose numbers are 32 bits wide, then data up to byte 1,024."""
    entries, beside = b"", b""
    listed = sorted(tags)
    after = 8 + 2 + 12 * len(listed) + 4
    for tag, values in listed:
        packed = struct.pack(f"<{len(values)}I", *values)
        where = packed if len(values) == 1 else struct.pack("<I", after + len(beside))
        beside += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + where
    head = b"II*\0" + struct.pack("<IH", 8, len(listed)) + entries + b"\0" * 4 + beside
    return head.ljust(1024, b"\0") + data


RGB_TAGS = [(258, [8, 8, 8]), (262, [2]), (277, [3])]
DEFLATE, RAW = 8, 1


def tiff_strip(width: int, height: int, compression: int, rows: int, size: int, data: bytes = b"") -> bytes:
    """Declare an RGB TIFF in one strip of `rows` rows and `size` bytes."""
    strip = [(256, [width]), (257, [height]), (259, [compression]), (273, [1024]), (278, [rows]), (279, [size])]
    return tiff([*RGB_TAGS, *strip], data)


def tiff_tile(width: int, height: int, compression: int, side: int, data: bytes) -> bytes:
    """Declare an RGB TIFF in one tile of `side` by `side` pixels."""
    tile = [(322, [side]), (323, [side]), (324, [1024]), (325, [len(data)])]
    return tiff([*RGB_TAGS, (256, [width]), (257, [height]), (259, [compression]), *tile], data)


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head + b"\0" * 46


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp_canvas(width: int, height: int) -> bytes:
    """Declare an animated WebP with a large canvas around one small frame."""
    frame = encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    place = b"\0" * 6 + struct.pack("<I", 3)[:3] * 2 + b"\0" * 4
    canvas = b"VP8X" + struct.pack("<II", 10, 2) + size + b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    return riff(canvas + b"ANMF" + struct.pack("<I", len(place + frame)) + place + frame)


def webp_lossless(width: int, height: int) -> bytes:
    data = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0" * 21
    return riff(b"VP8L" + struct.pack("<I", len(data)) + data)


def jpeg_declaring(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_declaring(screen: tuple[int, int], frames: list[tuple[int, int]]) -> bytes:
    """Take a GIF of 4 by 4 pixels, red and then blue, and change the sizes it declares."""
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encoded(red, "GIF", save_all=True, append_images=[blue])
    data = data[:6] + struct.pack("<HH", *screen) + data[10:]
    true_size, start = struct.pack("<cHHHH", b",", 0, 0, 4, 4), 0
    for width, height in frames:
        at = data.index(true_size, start)
        data = data[:at] + struct.pack("<cHHHH", b",", 0, 0, width, height) + data[at + 9 :]
        start = at + 9
    return data


def exif(*tags: tuple[int, int, int, bytes], count: int | None = None) -> bytes:
    """Write EXIF by hand: tags of (number, type, count, four bytes), though it may say another number of tags."""
    entries = b"".join(struct.pack("<HHI", tag, kind, times) + value for tag, kind, times, value in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags) if count is None else count) + entries + b"\0" * 4
