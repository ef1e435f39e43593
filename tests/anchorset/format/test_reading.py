"""Reading a store executes nothing, changes nothing, and needs no right to write."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_files import read_file_states, reseal
from support.anchorset_sets import dense
from support.running import environment

from asif.anchorset import Store
from asif.anchorset.format.atomic_io import hash_file
from asif.errors import IntegrityError


def test_a_pickle_in_place_of_a_block_is_refused(root: Path, tmp_path: Path) -> None:
    """Let its size, sha256 and manifest fit, as a malicious archive would."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    folder = root / "anchors/toy"
    opened = Store(root).open("toy")
    (entry,) = opened.manifest.blocks
    size = entry.size
    payload = pickle.dumps(Evil())
    for name, data in {"pickle": payload, "padded": payload + b"\0" * (size - len(payload)), "zip": b"PK\3\4"}.items():
        (folder / "block").write_bytes(data)
        sha256, length = hash_file(folder / "block")
        (folder / "block").rename(folder / f"blocks/{sha256}.safetensors")
        reseal(folder, lambda m, found=(sha256, length): m["blocks"][0].update(sha256=found[0], size=found[1]))  # type: ignore[misc]
        with pytest.raises(IntegrityError, match="begins with"):
            Store(root).open("toy")
        assert any("begins with" in str(problem) for problem in Store(root).verify("toy@2").problems), name
    assert not (tmp_path / "executed").exists()


AUDIT = """
import sys
from pathlib import Path
import ml_dtypes, pyarrow.parquet
from asif.anchorset import Store
store = Store(Path(sys.argv[1]))
def read():
    for entry in store.sets():
        for version in ("1", "2"):
            with store.open(f"{entry.name}@{version}") as opened:
                opened.blocks("image")[0].sum(), opened.mean("text"), opened.records(range(opened.count))
        assert store.verify(entry.name).problems == ()
read()  # modules that are opened late are loaded now
events = []
sys.addaudithook(lambda event, _: events.append(event))
read()
bad = ("exec", "compile", "import", "pickle", "marshal", "subprocess", "os.system", "os.exec", "os.posix_spawn",
       "os.fork", "ctypes", "socket", "os.mkdir", "os.rename", "os.remove", "shutil")
print(sorted({event for event in events if event.startswith(bad)}), "open" in events, "mmap.__new__" in events)
"""


def test_reading_executes_nothing(root: Path) -> None:
    run = [sys.executable, "-W", "error", "-c", AUDIT, str(root)]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[] True True"


def read_everything(root: Path) -> None:
    store = Store(root)
    opened = store.open("toy")
    assert dense(opened, "image").shape == (9, 6)
    assert len(opened.records(range(9))) == 9
    assert store.verify("toy").problems == ()
    assert store.sets()[0].count == 9


def test_reading_changes_nothing(root: Path) -> None:
    before = read_file_states(root)
    read_everything(root)
    assert read_file_states(root) == before


@pytest.fixture
def read_only(root: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "read-only"
    place.mkdir()
    mounts = [["mount", "--bind", str(root), str(place)], ["mount", "-o", "remount,bind,ro", str(place)]]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a folder read-only")
    if any(subprocess.run(mount, capture_output=True, check=False).returncode for mount in mounts):
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_store_can_be_read(read_only: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (read_only / "x").write_text("")
    read_everything(read_only)
