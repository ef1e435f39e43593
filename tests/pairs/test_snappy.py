"""Snappy in pieces: the bytes that pyarrow decompresses, damage refused, memory bounded."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pytest

from asif.pairs import snappy
from asif.pairs.page_bytes import DamagedPage, FileBytes
from asif.pairs.snappy import decompress_snappy

RANDOM = random.Random(5)
WORDS = [RANDOM.randbytes(RANDOM.randrange(1, 12)) for _ in range(300)]
NOISE = RANDOM.randbytes(300_000)
CODEC = pa.Codec("snappy")
BLOCKS = {
    "noise": NOISE,
    "words": b"".join(RANDOM.choices(WORDS, k=60_000)),
    "zeros": bytes(1_000_000),
    "runs": b"".join(RANDOM.choices([*WORDS, NOISE[:3000], NOISE[:20_000], bytes(500)], k=500)),
    "64 KiB": NOISE[: 1 << 16],
    "64 KiB and one": NOISE[: (1 << 16) + 1],
    "one byte": b"a",
    **{f"a literal of {size}": NOISE[:size] for size in (60, 61, 256, 257, (1 << 14) - 1, 1 << 14)},
}


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snappy, "_WHOLE_BYTES", 0)


def decompress(block: bytes, size: int) -> bytes:
    return b"".join(decompress_snappy(FileBytes(io.BytesIO(block), 0, len(block)), size))


def literal(data: bytes) -> bytes:
    """Return a literal, its length in the fewest bytes."""
    length = len(data) - 1
    if length < 60:
        return bytes([length << 2]) + data
    width = (length.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + length.to_bytes(width, "little") + data


def copy(offset: int, length: int, width: int = 2) -> bytes:
    """Return a copy whose offset has two or four bytes."""
    return bytes([(length - 1) << 2 | (2 if width == 2 else 3)]) + offset.to_bytes(width, "little")


def block(size: int, *elements: bytes) -> bytes:
    head = b""
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + b"".join(elements)


@pytest.mark.parametrize("data", BLOCKS.values(), ids=BLOCKS)
def test_pieces_are_the_bytes_that_were_compressed(data: bytes) -> None:
    assert decompress(bytes(CODEC.compress(data)), len(data)) == data


def test_no_piece_is_large() -> None:
    for data in (bytes(8 << 20), NOISE * 20):
        compressed = block(len(data), literal(data)) if data[0] else bytes(CODEC.compress(data))
        sizes = [len(p) for p in decompress_snappy(FileBytes(io.BytesIO(compressed), 0, len(compressed)), len(data))]
        assert sum(sizes) == len(data) and max(sizes) < 2 << 20 and len(sizes) > 3


def test_a_small_block_is_decompressed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snappy, "_WHOLE_BYTES", 1_000_000)
    monkeypatch.setattr(snappy, "_Decoder", None)
    assert decompress(bytes(CODEC.compress(NOISE)), len(NOISE)) == NOISE


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("offset", [1, 3, 300, 65_535])
def test_copies_find_what_they_repeat_across_pieces(offset: int, width: int) -> None:
    elements = [literal(NOISE[:70_000])] + [copy(offset, 64, width), literal(b"abc")] * 30_000
    compressed = block(70_000 + 67 * 30_000, *elements)
    expected = bytes(CODEC.decompress(compressed, 70_000 + 67 * 30_000))
    assert decompress(compressed, len(expected)) == expected


def test_copies_from_further_back_are_right_too() -> None:
    elements = [literal(NOISE[:200_000]), copy(10, 20), copy(150_000, 50, 4), literal(b"abc"), copy(200_000, 64, 4)]
    compressed = block(200_137, *elements)
    expected = bytes(CODEC.decompress(compressed, 200_137))
    assert expected[200_020:200_070] == NOISE[50_020:50_070]
    assert decompress(compressed, 200_137) == expected


DAMAGED = {
    "an offset of 0": (block(124, literal(NOISE[:60]), copy(0, 64)), 124),
    "a copy from before the beginning": (block(124, literal(NOISE[:60]), copy(61, 64)), 124),
    "a far copy from before the beginning": (block(100_064, literal(NOISE[:100_000]), copy(100_001, 64, 4)), 100_064),
    "a copy at the beginning": (block(64, copy(1, 64)), 64),
    "another size than the page": (block(60, literal(NOISE[:60])), 61),
    "too few elements": (block(61, literal(NOISE[:60])), 61),
    "too many elements": (block(59, literal(NOISE[:60])), 59),
    "elements after the end": (block(60, literal(NOISE[:60]), literal(b"a")), 60),
    "bytes after a long literal": (block(20_000, literal(NOISE[:20_000]), b"a"), 20_000),
    "a long literal beyond the size": (block(19_999, literal(NOISE[:20_000])), 19_999),
    "a size beyond all elements": (block(1 << 31, literal(NOISE[:60])), 1 << 31),
    "a size without an end": (b"\xff" * 9, 60),
    "nothing": (b"", 0),
}


@pytest.mark.parametrize(("compressed", "size"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named(compressed: bytes, size: int) -> None:
    with pytest.raises(DamagedPage):
        decompress(compressed, size)


@pytest.mark.parametrize("data", [BLOCKS["words"][:2_000], NOISE[:40_000]], ids=["words", "noise"])
def test_a_block_that_is_cut_off_is_refused(data: bytes) -> None:
    compressed = bytes(CODEC.compress(data))
    for end in {*range(0, len(compressed), 97), len(compressed) - 1}:
        with pytest.raises(DamagedPage):
            decompress(compressed[:end], len(data))


def test_flipped_bits_are_refused_or_read_as_pyarrow_reads_them() -> None:
    good = bytes(CODEC.compress(BLOCKS["words"][:5_000]))
    refused = 0
    for at in RANDOM.sample(range(len(good)), 300):
        bad = bytearray(good)
        bad[at] ^= 1 << RANDOM.randrange(8)
        try:
            expected: bytes | None = bytes(CODEC.decompress(bytes(bad), 5_000))
        except OSError:
            expected = None
        if expected is None or at < 2:
            refused += 1
            with pytest.raises(DamagedPage):
                decompress(bytes(bad), 5_000)
        else:
            assert decompress(bytes(bad), 5_000) == expected
    assert 20 < refused < 280
