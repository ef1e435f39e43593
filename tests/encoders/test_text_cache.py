"""The cache of texts: what it returns, whatever was damaged, and that it has no text in it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from support.running import open_to_all

from asif.encoders.text_cache import CHECKSUM_BYTES, TextCache, hash_text
from asif.errors import AsifError
from asif.vectors import Float32


def unit_vectors(count: int, dim: int = 16) -> dict[str, Float32]:
    raw = np.random.default_rng(count).standard_normal((count, dim))
    rows = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return {f"a secret label {row}": vector for row, vector in enumerate(rows)}


def equal(found: dict[str, Float32], expected: dict[str, Float32]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[text], expected[text]) for text in expected)


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "deep" / "texts.sqlite"), unit_vectors(5)
    assert cache.get("f", list(known), 16) == {}
    cache.put("f", known)
    assert equal(TextCache(cache.path).get("f", [*known, "another"], 16), known)
    assert cache.get("g", list(known), 16) == {}
    assert cache.get("f", list(known), 17) == {}
    changed = {text: -vector for text, vector in known.items()}
    cache.put("f", changed)
    assert equal(cache.get("f", list(known), 16), changed)


def test_no_text_is_in_the_cache(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")
    cache.put("the fingerprint", unit_vectors(50))
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert b"secret" not in content
        assert b"the fingerprint" not in content
    assert cache.path.stat().st_size > 50 * 16 * 4


def test_a_damaged_cache_never_gives_another_vector(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(3)
    cache.put("f", known)
    whole = cache.path.read_bytes()
    rng, missed = np.random.default_rng(0), 0
    at_vectors = [whole.index(vector.tobytes()) + 5 for vector in known.values()]
    for place in [*at_vectors, *rng.integers(0, len(whole), 300), *range(100)]:
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        cache.path.write_bytes(changed)
        found = cache.get("f", list(known), 16)
        assert equal(found, {text: known[text] for text in found})
        missed += len(found) < 3
    assert missed >= len(at_vectors)


def test_no_flipped_bit_gives_a_text_the_vector_of_another(tmp_path: Path) -> None:
    """Damage in all pages: the header, the tree of keys, the entries; reading and deleting never raise anything raw."""
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(100)
    cache.put("f", known)
    whole = cache.path.read_bytes()
    rng, missed = np.random.default_rng(0), 0
    for bit in [*rng.integers(0, 8 * len(whole), 180), *rng.integers(0, 8 * 200, 60)]:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << int(bit % 8)
        cache.path.write_bytes(changed)
        found = cache.get("f", list(known), 16)
        assert equal(found, {text: known[text] for text in found})
        missed += len(found) < len(known)
        with suppress(AsifError):
            cache.forget("f", ["a secret label 3"])
            assert "a secret label 3" not in cache.get("f", ["a secret label 3"], 16)
    assert missed > 30


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("UPDATE texts SET vector = (SELECT vector FROM texts AS other WHERE other.rowid = 3 - texts.rowid)", 1),
        ("UPDATE texts SET key = x'00' WHERE rowid = 1", 1),
        ("ALTER TABLE texts RENAME COLUMN vector TO picture", 0),
    ],
)
def test_entries_of_other_texts_are_misses(tmp_path: Path, damage: str, left: int) -> None:
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(2)
    cache.put("f", known)
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.execute(damage)
    found = cache.get("f", list(known), 16)
    assert len(found) == left and equal(found, {text: known[text] for text in found})


def test_entries_without_the_checksum_of_their_key_are_encoded_again(tmp_path: Path) -> None:
    """Earlier versions wrote a checksum of the vector alone."""
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(2)
    cache.put("f", known)
    old = [
        (hashlib.sha256(vector.tobytes()).digest()[:8] + vector.tobytes(), hash_text("f", text))
        for text, vector in known.items()
    ]
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.executemany("UPDATE texts SET vector = ? WHERE key = ?", old)
    assert cache.get("f", list(known), 16) == {}
    cache.put("f", known)
    assert equal(cache.get("f", list(known), 16), known)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_cache_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")
    cache.path.write_bytes(content)
    assert cache.get("f", ["a"], 16) == {}
    cache.put("f", unit_vectors(2))
    assert equal(cache.get("f", list(unit_vectors(2)), 16), {} if content else unit_vectors(2))


def test_entries_of_other_types_are_misses(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(2)
    cache.put("f", known)
    for entry in ("x" * (CHECKSUM_BYTES + 64), 7, b"", b"x" * (CHECKSUM_BYTES + 64)):
        with sqlite3.connect(cache.path) as connection:
            connection.execute("UPDATE texts SET vector = ?", (entry,))
        connection.close()
        assert cache.get("f", list(known), 16) == {}


READ_ONLY = """
import os, sys
from pathlib import Path
import numpy as np
from asif.encoders.text_cache import TextCache
if os.geteuid() == 0:
    os.setuid(65534)
cache = TextCache(Path(sys.argv[1]))
before = len(cache.get("f", ["a secret label 0", "new"], 16))
cache.put("f", {"new": np.eye(16, dtype=np.float32)[0]})
print(before, len(cache.get("f", ["a secret label 0", "new"], 16)), os.access(cache.path, os.W_OK))
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions as Unix has them")
def test_a_cache_that_may_not_be_written(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    cache = TextCache(tmp_path / "cache" / "texts.sqlite")
    cache.put("f", unit_vectors(2))
    cache.path.chmod(0o444)
    cache.path.parent.chmod(0o555)
    run = [sys.executable, "-W", "error", "-c", READ_ONLY, str(cache.path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd="/")
    cache.path.parent.chmod(0o755)
    assert (done.stdout, done.stderr) == ("1 1 False\n", "")


def test_a_cache_where_a_folder_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = TextCache(tmp_path / "file" / "texts.sqlite")
    cache.put("f", unit_vectors(2))
    assert cache.get("f", list(unit_vectors(2)), 16) == {}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from asif.encoders.text_cache import TextCache
cache, who = TextCache(Path(sys.argv[1])), int(sys.argv[2])
for number in range(40):
    cache.put("f", {f"{who} {number}": np.eye(64, dtype=np.float32)[number], "both": np.eye(64, dtype=np.float32)[63]})
"""


@pytest.mark.slow
def test_two_processes_write_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "texts.sqlite"
    run = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*run, str(who)], stderr=subprocess.PIPE) for who in range(2)]
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    eye = np.eye(64, dtype=np.float32)
    expected = {f"{who} {number}": eye[number] for who in range(2) for number in range(40)} | {"both": eye[63]}
    assert equal(TextCache(path).get("f", list(expected), 64), expected)
