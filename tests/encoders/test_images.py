"""Decoding: which pixels come out, and what is refused with which reason (P4, P5)."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from support.build_images import Pixels, chunk, encoded, exif, gif_declaring, png, random_png, tiff, tiles
from support.paths import SUPPORT
from support.running import environment

from asif.encoders import images
from asif.encoders.images import MAX_PIXELS, PILLOW_MODULES, decode_image, to_8_bits
from asif.errors import BadImage

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = NOISE[..., 0]
FLAT = tiles(1)
DEEP = np.array([[0, 128, 129, 256], [32_896, 40_000, 65_000, 65_535]], np.uint16)
DEEP_AS_8_BITS = [[0, 0, 1, 1], [128, 156, 253, 255]]
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def of_colour(colour: tuple[int, int, int], height: int = 4, width: int = 4) -> Pixels:
    return np.tile(np.array(colour, np.uint8), (height, width, 1))


def grey(values: Any) -> Pixels:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def colour_image(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (4, 4), colour)


def animation(form: str, **options: Any) -> bytes:
    return encoded(colour_image("RGB", RED), form, save_all=True, append_images=[colour_image("RGB", BLUE)], **options)


def palette(transparency: int | bytes) -> bytes:
    image = Image.new("P", (2, 2))
    image.putdata([0, 1, 1, 0])
    image.putpalette([255, 0, 0, 0, 255, 0])
    return encoded(image, "PNG", transparency=transparency)


def with_alpha(mode: str, colour: tuple[int, ...]) -> bytes:
    """Draw three pixels of one colour: opaque, half transparent, not there."""
    image = Image.new(mode, (3, 1))
    image.putdata([(*colour, 255), (*colour, 128), (*colour, 0)])
    return encoded(image, "PNG")


def deep_rgb() -> bytes:
    rows = [b"\0" + np.repeat(row[:, None], 3, axis=1).astype(">u2").tobytes() for row in DEEP]
    return png(4, 2, depth=16, pixels=b"".join(rows))


# the pixels expected, and by how much they may differ
DECODED: dict[str, tuple[bytes, Any, int]] = {
    "png": (encoded(NOISE, "PNG"), NOISE, 0),
    "bmp": (encoded(NOISE, "BMP"), NOISE, 0),
    "tiff": (encoded(NOISE, "TIFF"), NOISE, 0),
    "tiff, deflate": (encoded(NOISE, "TIFF", compression="tiff_deflate"), NOISE, 0),
    "webp, lossless": (encoded(NOISE, "WEBP", lossless=True), NOISE, 0),
    "webp": (encoded(of_colour((200, 30, 90), 16, 16), "WEBP"), of_colour((200, 30, 90), 16, 16), 4),
    "jpeg": (encoded(FLAT, "JPEG", quality=95, subsampling=0), FLAT, 3),
    "jpeg, progressive": (encoded(FLAT, "JPEG", quality=95, subsampling=0, progressive=True), FLAT, 3),
    "jpeg, grey": (encoded(FLAT[..., 0], "JPEG", quality=95), grey(FLAT[..., 0]), 3),
    "jpeg, cmyk": (encoded(colour_image("CMYK", (255, 0, 0, 0)), "JPEG"), of_colour((0, 255, 255)), 3),
    "jpeg, cmyk with black": (encoded(colour_image("CMYK", (0, 0, 0, 155)), "JPEG"), of_colour((100, 100, 100)), 3),
    "tiff, cmyk": (encoded(colour_image("CMYK", (0, 255, 255, 0)), "TIFF"), of_colour(RED), 0),
    "grey": (encoded(GREY, "PNG"), grey(GREY), 0),
    "1 bit": (encoded(Image.fromarray(GREY > 127), "PNG"), grey(np.where(GREY > 127, 255, 0)), 0),
    "16 bits, png": (encoded(DEEP, "PNG"), grey(DEEP_AS_8_BITS), 0),
    "16 bits, tiff": (encoded(DEEP, "TIFF"), grey(DEEP_AS_8_BITS), 0),
    "16 bits, rgb": (deep_rgb(), grey(DEEP_AS_8_BITS), 1),
    "32 bits that hold 16": (encoded(DEEP.astype(np.int32), "TIFF"), grey(DEEP_AS_8_BITS), 0),
    "12 bits in 16": (encoded(DEEP // 16, "PNG"), grey([[0, 0, 0, 1], [128, 156, 253, 255]]), 0),
    "8 bits in 16": (encoded(GREY.astype(np.uint16), "PNG"), grey(GREY), 0),
    "8 bits in 32": (encoded(GREY.astype(np.int32), "TIFF"), grey(GREY), 0),
    "8 bits in floats": (encoded(GREY.astype(np.float32), "TIFF"), grey(GREY), 0),
    "floats from 0 to 1": (encoded(np.array([[0, 0.5, 1]], np.float32), "TIFF"), grey([[0, 128, 255]]), 0),
    "floats from below zero": (encoded(np.array([[-1, 0.5, 3]], np.float32), "TIFF"), grey([[0, 96, 255]]), 0),
    "black floats": (encoded(np.zeros((1, 3), np.float32), "TIFF"), grey([[0, 0, 0]]), 0),
    "below zero": (encoded(np.array([[-1000, 0, 3000]], np.int32), "TIFF"), grey([[0, 64, 255]]), 0),
    "one value below zero": (encoded(np.full((1, 3), -5, np.int32), "TIFF"), grey([[0, 0, 0]]), 0),
    "18 bits": (encoded(np.array([[0, 131_072, 262_143]], np.int32), "TIFF"), grey([[0, 128, 255]]), 0),
    "palette": (encoded(Image.fromarray(of_colour(BLUE)).quantize(2), "PNG"), of_colour(BLUE), 0),
    "palette, a clear colour": (palette(1), [[RED, WHITE], [WHITE, RED]], 0),
    "palette with alpha": (palette(bytes([255, 128])), [[RED, (127, 255, 127)], [(127, 255, 127), RED]], 1),
    "grey with alpha": (with_alpha("LA", (100,)), grey([[100, 177, 255]]), 1),
    "rgba": (with_alpha("RGBA", (0, 100, 200)), [[(0, 100, 200), (127, 177, 227), WHITE]], 1),
    "rgb with a clear colour": (
        encoded(np.array([[RED, BLUE]], np.uint8), "PNG", transparency=BLUE),
        [[RED, WHITE]],
        0,
    ),
    "grey with a clear value": (encoded(np.array([[7, 9]], np.uint8), "PNG", transparency=9), grey([[7, 255]]), 0),
    "gif, animated": (animation("GIF"), of_colour(RED), 0),
    "webp, animated": (animation("WEBP", lossless=True), of_colour(RED), 0),
    "png, animated": (animation("PNG"), of_colour(RED), 0),
    "png, animated with another still": (animation("PNG", default_image=True), of_colour(RED), 0),
    "tiff, pages": (animation("TIFF"), of_colour(RED), 0),
    "jpeg, several pictures": (animation("MPO", quality=95), of_colour(RED), 3),
    "gif, second frame too large": (gif_declaring((4, 4), [(4, 4), (60_000, 60_000)]), of_colour(RED), 0),
    "one pixel": (encoded(of_colour(RED, 1, 1), "PNG"), [[RED]], 0),
    "as long as may be": (encoded(of_colour(BLUE, 1, 100), "PNG"), of_colour(BLUE, 1, 100), 0),
}


@pytest.mark.parametrize("name", DECODED)
def test_decoded(name: str) -> None:
    content, expected, off = DECODED[name]
    image = decode_image(content)
    assert image.mode == "RGB"
    found = np.asarray(image).astype(int)
    assert found.shape == np.shape(expected)
    assert np.abs(found - np.asarray(expected)).max() <= off


def test_a_file_is_decoded_like_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"  # whatever its name says
    file.write_bytes(encoded(NOISE, "PNG"))
    for source in (file, str(file)):
        assert np.array_equal(np.asarray(decode_image(source)), NOISE)


def test_16_bits_are_rounded() -> None:
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_8_bits(every), np.rint(every / 257))
    former = (every[:65].astype(np.uint32) + 128) // 257  # up to 16,639, which needs 15 bits
    assert np.array_equal(to_8_bits(every[:65]), former)


@pytest.mark.parametrize("bits", range(1, 33))
def test_greys_are_scaled_by_the_bits_that_hold_them(bits: int) -> None:
    values = np.array([[0, (1 << bits) // 2, (1 << bits) - 1]], np.uint32)
    white = (1 << max(8, bits + bits % 2)) - 1
    assert np.array_equal(to_8_bits(values), np.rint(values / white * 255))


def test_bands_of_rows_are_scaled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (50, 7))
    whole = to_8_bits(values)
    monkeypatch.setattr(images, "_BAND_PIXELS", 20)
    assert np.array_equal(to_8_bits(values), whole)


STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
EXACT = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "JPEG": {"quality": 95, "subsampling": 0}}


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(form: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](FLAT))
    found = np.asarray(decode_image(encoded(stored, form, exif=tags, **EXACT[form]))).astype(int)
    assert found.shape == FLAT.shape
    assert np.abs(found - FLAT).max() <= (3 if form == "JPEG" else 0)


TURNED = (0x0112, 3, 1, b"\6\0\0\0")
DAMAGED_EXIF = {
    "empty": (b"", 1),
    "garbage": (b"Exif\0\0" + b"\xff" * 100, 1),
    "zeros": (b"Exif\0\0" + b"\0" * 65_000, 1),
    "cut": (b"Exif\0\0II*\0", 1),
    "orientation 99": (exif((0x0112, 3, 1, b"\x63\0\0\0")), 1),
    "orientation as text": (exif((0x0112, 2, 2, b"6\0\0\0")), 1),
    "offset outside": (exif(TURNED, (0x010E, 2, 1000, b"\xf0\xff\xff\xff")), 6),
    "unknown type": (exif(TURNED, (0x011A, 77, 1, b"\x26\0\0\0")), 6),
    "directory within itself": (exif(TURNED, (0x8825, 4, 1, b"\x08\0\0\0")), 6),
    "directory as text": (exif(TURNED, (0x8769, 2, 4, b"abcd")), 6),
    "width as text": (exif(TURNED, (0x0100, 2, 4, b"abc\0")), 6),
    "negative rational": (exif(TURNED, (0x011A, 10, 1, b"\x08\0\0\0")), 6),
    "more tags than there are": (exif(TURNED, count=60_000), 6),
}


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("name", DAMAGED_EXIF)
def test_damaged_exif_is_no_reason_to_refuse_pixels(name: str, form: str) -> None:
    data, orientation = DAMAGED_EXIF[name]
    stored = np.ascontiguousarray(STORED[orientation](FLAT))
    found = np.asarray(decode_image(encoded(stored, form, exif=data, **EXACT[form]))).astype(int)
    assert found.shape == FLAT.shape
    assert np.abs(found - FLAT).max() <= (3 if form == "JPEG" else 0)


def test_megabytes_of_exif() -> None:
    content = png(1, 1, extra=chunk(b"eXIf", b"\0" * 20_000_000), pixels=b"\0" + bytes(RED))
    assert np.asarray(decode_image(content)).tolist() == [[list(RED)]]


PICTURE = Image.fromarray(FLAT)
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "0 bytes"),
    "one byte": (b"\xff", "1 bytes that are no JPEG"),
    "html": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "54 bytes that are no JPEG"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "are no JPEG"),
    "eps": (encoded(PICTURE, "EPS"), "are no JPEG"),
    "pdf": (encoded(PICTURE, "PDF"), "are no JPEG"),
    "ico": (encoded(PICTURE.resize((16, 16)), "ICO"), "are no JPEG"),
    "ppm": (encoded(PICTURE, "PPM"), "are no JPEG"),
    "tga": (encoded(PICTURE, "TGA"), "are no JPEG"),
    "jpeg cut in the middle": (encoded(NOISE.repeat(9, 0), "JPEG")[:500], "Truncated File Read"),
    "jpeg without its last byte but one": (encoded(NOISE, "JPEG")[:-40], "image file is truncated"),
    "jpeg cut in its head": (encoded(NOISE, "JPEG")[:20], "are no JPEG"),
    "png cut": (encoded(NOISE, "PNG")[:120], "cannot be decoded"),
    "png with a changed name": (encoded(NOISE, "PNG").replace(b"IDAT", b"IDAU"), "are no JPEG"),
    "webp cut": (encoded(NOISE, "WEBP")[:60], "cannot be decoded"),
    "gif cut": (encoded(NOISE, "GIF")[:-30], "cannot be decoded"),
    "bmp cut": (encoded(NOISE, "BMP")[:-30], "image file is truncated"),
    "tiff cut": (encoded(NOISE, "TIFF", compression="tiff_deflate")[:200], "are no JPEG"),
    "infinite": (encoded(np.array([[0, np.inf]], np.float32), "TIFF"), "float32 values from 0.0 to inf"),
    "not a number": (encoded(np.array([[0, np.nan]], np.float32), "TIFF"), "float32 values from nan to nan"),
    "a strip": (encoded(Image.new("1", (20_000, 1)), "PNG"), "an image of 20000x1 pixels, a strip"),
    "an upright strip": (encoded(Image.new("1", (1, 20_000)), "PNG"), "an image of 1x20000 pixels, a strip"),
    "just longer than may be": (encoded(of_colour(RED, 101, 1), "PNG"), "an image of 1x101 pixels, a strip"),
    "no pixels": (png(0, 7), "66 bytes that are no JPEG"),
    "just larger than may be": (png(10_001, 10_000), "an image of 10001x10000 pixels"),
}
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not decode AVIF")


@avif
@pytest.mark.parametrize("orientation", STORED)
def test_avif(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](FLAT))
    found = np.asarray(decode_image(encoded(stored, "AVIF", quality=100, subsampling="4:4:4", exif=tags))).astype(int)
    assert found.shape == FLAT.shape
    assert np.abs(found - FLAT).max() <= 4


def test_formats_without_a_decoder_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_list_formats", lambda: images._FORMATS)
    for content, name, install in (
        (HEIC, "HEIC", "pip install 'asif-engine[heif]'"),
        (HEIC.replace(b"heic", b"avif"), "AVIF", "pip install -U pillow"),
    ):
        with pytest.raises(BadImage) as caught:
            decode_image(content)
        assert caught.value.came == f"{name}, which cannot be decoded here"
        assert caught.value.fix == f"{install}, or convert it"


def test_heic_is_decoded_with_pillow_heif() -> None:
    heif = pytest.importorskip("pillow_heif", reason="HEIC needs pillow-heif, which is not installed")
    heif.register_heif_opener()
    found = np.asarray(decode_image(encoded(of_colour((200, 30, 90), 16, 16), "HEIF", quality=100))).astype(int)
    assert np.abs(found - of_colour((200, 30, 90), 16, 16)).max() <= 6


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_of_16_bit_colour_pillow_gives_the_upper_8_bits(form: str) -> None:
    """As docs/pairs.md says: Pillow has no mode for it, so 12 bits stored in 16 are all but black."""
    values = np.array([0, 255, 256, 4095, 32_768, 65_535], ">u2")
    pixels = np.repeat(values[:, None], 3, axis=1)
    content = png(6, 1, depth=16, pixels=b"\0" + pixels.tobytes())
    if form == "TIFF":
        tags = [
            (256, [6]),
            (257, [1]),
            (258, [16, 16, 16]),
            (262, [2]),
            (273, [1024]),
            (277, [3]),
            (278, [1]),
            (279, [36]),
        ]
        content = tiff(tags, pixels.astype("<u2").tobytes())
    assert np.asarray(decode_image(content)).tolist() == [[[value // 256] * 3 for value in values.tolist()]]


def test_reasons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise ValueError("x" * 10_000)

    monkeypatch.setattr(images, "_to_rgb", fail)
    assert len(refusal(encoded(NOISE, "PNG")).came) < 300


def refusal(source: bytes | Path | str) -> BadImage:
    with pytest.raises(BadImage) as caught:
        decode_image(source)
    assert caught.value.exit_code == 3
    assert caught.value.expected.startswith("a JPEG, PNG, WEBP, GIF, BMP, TIFF")
    assert " of at most 100,000,000 pixels" in caught.value.expected
    assert caught.value.fix == "repair or leave out this image"
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    content, reason = REFUSED[name]
    assert reason in refusal(content).came


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path, tmp_path / ("x" * 300), Path("nul\0.jpg")):
        assert "a file that cannot be read" in refusal(path).came


def test_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(NOISE, "PNG")
    file = tmp_path / "a.png"
    file.write_bytes(content)
    monkeypatch.setattr(images, "_MAX_BYTES", len(content))
    assert np.array_equal(np.asarray(decode_image(file)), NOISE)
    monkeypatch.setattr(images, "_MAX_BYTES", len(content) - 1)
    for source in (file, content):
        assert refusal(source).came == f"more than {len(content) - 1} bytes"


def test_too_little_memory_is_not_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(images, "_to_rgb", out_of_memory)
    with pytest.raises(MemoryError):
        decode_image(encoded(NOISE, "PNG"))


def safe(content: bytes) -> Pixels | str:
    """Decode twice: an RGB image within the limits, or a refusal, and the same one."""
    found: list[Any] = []
    for _ in range(2):
        try:
            image = decode_image(content)
            assert image.mode == "RGB"
            assert 0 < image.width * image.height <= MAX_PIXELS
            found.append(np.asarray(image))
        except BadImage as error:
            found.append(error.came)
    assert np.array_equal(*found)
    return found[0]


FORMS = [encoded(NOISE, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]
FORMS += [encoded(NOISE, "TIFF", compression="tiff_deflate"), encoded(NOISE, "JPEG", exif=exif(TURNED))]


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(content: bytes) -> None:
    assert isinstance(safe(content), str)


@given(st.sampled_from(FORMS), st.binary(max_size=200))
def test_a_good_head_and_random_bytes(form: bytes, rest: bytes) -> None:
    for head in (4, 12, 40):
        found = safe(form[:head] + rest)  # anything but BadImage would have come through
        assert found if isinstance(found, str) else found.dtype == np.uint8 and found.shape[2:] == (3,)


@pytest.mark.parametrize("at", range(len(FORMS)))
def test_any_changed_byte_is_refused_or_decoded(at: int) -> None:
    outcomes = {type(safe(changed)) for changed in changes(FORMS[at], np.random.default_rng(at), 400)}
    assert str in outcomes


def changes(content: bytes, rng: np.random.Generator, count: int) -> list[bytes]:
    """Change one byte each, mostly in the head, where the meaning is."""
    places = np.minimum(rng.exponential(len(content) / 4, count).astype(int), len(content) - 1)
    values = rng.integers(1, 256, count)
    return [content[:p] + bytes([content[p] ^ int(v)]) + content[p + 1 :] for p, v in zip(places, values, strict=True)]


def test_pillows_warnings_neither_show_nor_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", NOISE.shape[0] * NOISE.shape[1] - 1)  # warns up to twice as many
    assert np.array_equal(np.asarray(decode_image(encoded(NOISE, "PNG"))), NOISE)


def test_threads_leave_the_warnings_of_others_on() -> None:
    """`warnings.catch_warnings` in several threads does not: this found it in 16 of 20 runs."""
    content = random_png(3, 200, 300)
    decode_image(content)
    before = list(warnings.filters)
    assert sum(getattr(found[3], "pattern", None) == PILLOW_MODULES for found in before) == 1
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: np.asarray(decode_image(content)).tobytes(), range(200)))
    assert len(set(found)) == 1
    assert warnings.filters == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a child as Linux does")
def test_bombs_are_refused_in_little_memory() -> None:
    from support.build_bombs import BOMBS, HARMLESS

    run = [sys.executable, "-W", "error", str(SUPPORT / "build_bombs.py")]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    outcomes = {line["name"]: line["outcome"] for line in map(json.loads, done.stdout.splitlines())}
    assert {name for name, outcome in outcomes.items() if outcome.startswith("BadImage: ")} == set(BOMBS)
    assert {name for name, outcome in outcomes.items() if outcome == "decoded to (4, 4)"} == set(HARMLESS)
