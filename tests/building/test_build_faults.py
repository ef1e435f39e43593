"""Builds that are killed, stopped, fed with damage, or large (P1, P3, P4, P29)."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.build_fakes import (
    OPERATION,
    FakeImages,
    FakeTexts,
    ListSource,
    build_set,
    identity,
    list_source,
    rejects,
    some_rows,
    write_parquet,
)
from support.build_images import encoded, gif_declaring, png, random_png
from support.paths import SUPPORT
from support.running import Ran, environment, wait_for

from asif.anchorset import Store
from asif.building import BuildOptions, Tolerance, build_anchor_set
from asif.errors import InputRefused, Interrupted, NotFound, UsageError

DRIVER = SUPPORT / "build_driver.py"
ROWS = 150
SEGMENT = 16
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals as Unix has them")

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = some_rows(ROWS)
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    return write_parquet(path, [row[1] for row in rows], [row[2] for row in rows], id=[row[0] for row in rows])


@pytest.fixture(scope="module")
def whole(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the set that an uninterrupted build gives."""
    return build_set(list_source(*some_rows(ROWS)), tmp_path_factory.mktemp("whole")).anchors


def driver(*arguments: Any, **told: Any) -> subprocess.Popen[str]:
    run = [sys.executable, "-W", "error", str(DRIVER), *map(str, arguments)]
    return subprocess.Popen(
        run, env=environment(DRIVER=json.dumps(told)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# killed


@pytest.mark.slow
@unix
def test_a_build_killed_at_any_time_can_be_finished(tmp_path: Path, pairs: Path, whole: Any) -> None:
    """P1."""
    out, err = (process := driver("kills", tmp_path, pairs)).communicate()
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 18
    resumed, killed = set(), 0
    for before, done, after in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        for seen in before["seen"]:
            assert seen[0] in ("NotFound", identity(whole))
            assert all("stray" in problem for problem in seen[1:])
        assert done["seen"] == [identity(whole)]
        assert done["resumed_at"] % SEGMENT == 0 or done["resumed_at"] == ROWS
        assert after["images"] == ROWS
        finished = [identity(whole) in seen for seen in before["seen"]]
        if not any(finished):
            assert after["encoded"] <= ROWS + 2 * SEGMENT * sum(before["killed"])
            assert after["encoded"] - before["before"] == ROWS - done["resumed_at"]
        resumed.add(done["resumed_at"])
        killed += sum(before["killed"])
    assert killed >= 6
    assert ROWS in resumed
    assert any(0 < at < ROWS for at in resumed)


# stopped


PHASES = {
    "reading ids": {"reading ids": 0.02},
    "reading": {"reading": 0.02},
    "decoding": {"decoding": 0.3},
    "encoding": {"encoding": 0.1},
    "encoding while images are decoded": {"encoding": 3.0, "decoding": 0.2},
    "encoding captions": {"captions": 0.3},
    "publishing": {"publishing": 1.0},
}


@pytest.mark.slow
@unix
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_stops_within_two_seconds(
    tmp_path: Path,
    pairs: Path,
    whole: Any,
    asif_build: Callable[..., Ran],
    fakes: Any,
    phase: str,
) -> None:
    """P29: exit 130, the words to go on, and the next run goes on."""
    home, mark = tmp_path / "home", tmp_path / "mark"
    process = driver(
        "build", pairs, "--name", "toy", "--home", home, slow=PHASES[phase], segment=SEGMENT, mark=str(mark)
    )
    wait_for(mark, process)
    time.sleep(0.7 if phase != "publishing" else 0.2)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 2
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    said = err[err.index("error: ") :].splitlines()
    assert said[2] == "  to do:    run the same command again to resume"
    if phase == "reading ids":
        assert said[0].startswith("error: stopped while ids were read, before anything was encoded")
        at = 0
    else:
        assert said[0].startswith("error: stopped at row ")
        assert said[0].endswith(" anchors are saved")
        at = int(said[0].split()[4])
    assert at == ROWS if phase == "publishing" else 0 <= at < ROWS
    with pytest.raises(NotFound):
        Store(home).open("toy")
    again = asif_build(pairs, "--name", "toy", "--json")
    assert again.code == 0, again.err
    assert again.json["resumed_at_row"] == at
    assert identity(Store(home).open("toy")) == identity(whole)
    assert Store(home).verify("toy").problems == ()
    assert len(fakes[0].seen) == ROWS - at


def stopped_at(row: int) -> ListSource:
    """Press Ctrl-C before a row is read."""

    def before(at: int) -> None:
        if at == row:
            raise KeyboardInterrupt

    return ListSource(list_source(*some_rows(ROWS)).items, before=before)


@pytest.mark.parametrize("row", [0, 1, 70, 149])
def test_a_stopped_build_says_what_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any, row: int
) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)
    progress: list[int] = []
    with pytest.raises(Interrupted) as caught:
        build_anchor_set(
            stopped_at(row),
            Store(tmp_path),
            "toy",
            FakeImages(),
            FakeTexts(),
            BuildOptions(),
            OPERATION,
            progress.append,
        )
    kept = max(row - 63, 0) // SEGMENT * SEGMENT  # images are decoded up to 64 rows ahead
    assert progress == list(range(0, kept + 1, SEGMENT))
    assert caught.value.came == f"stopped at row {kept} of {ROWS}; {kept} anchors are saved"
    again = build_set(list_source(*some_rows(ROWS)), tmp_path)
    assert (again.resumed_at, again.rows) == (kept, ROWS - kept)
    assert identity(again.anchors) == identity(whole)


def test_fresh_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)
    with pytest.raises(Interrupted):
        build_set(stopped_at(120), tmp_path)
    image = FakeImages()
    built = build_set(list_source(*some_rows(ROWS)), tmp_path, image, resume=False)
    assert (built.resumed_at, identity(built.anchors), len(image.seen)) == (0, identity(whole), ROWS)


@pytest.mark.parametrize(
    "change",
    [{"captions": "all"}, {"dtype": "float32"}, {"dedup": "keep"}, {"limit": 140}, {"image": FakeImages(model="b")}],
)
def test_another_build_does_not_go_on_from_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)
    with pytest.raises(Interrupted):
        build_set(stopped_at(120), tmp_path)
    assert build_set(list_source(*some_rows(ROWS)), tmp_path, **change).resumed_at == 0


def bad_rows(*bad: int) -> ListSource:
    rows = some_rows(ROWS)
    return list_source(
        *[
            (name, b"bad", texts) if row in bad else (name, image, texts)
            for row, (name, image, texts) in enumerate(rows)
        ]
    )


def test_too_many_bad_rows_keep_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)
    with pytest.raises(InputRefused) as caught:
        build_set(bad_rows(40, 80, 140), tmp_path, max_bad_rows=Tolerance(number=2))
    assert caught.value.came == "3 bad rows (row 40: bad bytes; row 80: bad bytes; row 140: bad bytes)"
    assert caught.value.expected == "at most 2 bad rows of 150"
    built = build_set(bad_rows(40, 80, 140), tmp_path, max_bad_rows=Tolerance(number=3))
    assert built.resumed_at == 128
    assert list(rejects(tmp_path, built.anchors)) == [40, 80, 140]


def test_bad_rows_of_earlier_runs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)
    for _ in range(2):  # the second run must stop at the same row
        with pytest.raises(InputRefused):
            build_set(bad_rows(40, 80, 140), tmp_path, max_bad_rows=Tolerance(number=2))
    with pytest.raises(InputRefused):
        build_set(bad_rows(40, 80, 140), tmp_path, max_bad_rows=Tolerance(number=1))


# damaged images


def bad_images() -> dict[str, tuple[bytes | None, str]]:
    """Return images that cannot be anchors, with the reason that must be given."""
    picture = Image.fromarray(np.full((8, 8, 3), 99, np.uint8))
    return {
        "null": (None, "image is null"),
        "no bytes": (b"", "image is empty"),
        "html": (b"<html>404</html>", "16 bytes that are no JPEG"),
        "jpeg cut": (encoded(picture, "JPEG")[:-200], "cannot be decoded"),
        "png cut": (random_png(0)[:150], "cannot be decoded"),
        "svg": (b"<svg/>", "are no JPEG"),
        "eps": (encoded(picture, "EPS"), "are no JPEG"),
        "floats": (encoded(np.full((3, 3), np.nan, np.float32), "TIFF"), "an image of float32 values"),
        "strip": (encoded(Image.new("1", (20_000, 1)), "PNG"), "a strip"),
        "bomb": (png(60_000, 60_000), "an image that declares too many pixels"),
        "gif bomb": (gif_declaring((60_000, 60_000), []), "an image that declares too many pixels"),
    }


def good_images() -> list[bytes]:
    picture = Image.fromarray(np.full((8, 8, 3), 99, np.uint8))
    return [
        random_png(1),
        random_png(2, 1, 1),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(np.full((4, 4), 40_000, np.uint16), "PNG"),
        encoded(picture.quantize(2), "PNG", transparency=0),
        encoded(picture, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
    ]


@pytest.fixture
def bad_among_good(tmp_path: Path) -> Path:
    bad, good = [image for image, _ in bad_images().values()], good_images()
    captions: list[Any] = [[f"caption {row}"] for row in range(len(bad) + len(good))]
    return write_parquet(tmp_path / "bad.parquet", [*bad, *good, *good[:3]], [*captions, None, [" ", ""], ["nul\0"]])


def test_bad_images_are_rejected_with_their_reasons(
    asif_build: Callable[..., Ran],
    fakes: Any,
    bad_among_good: Path,
    home: Path,
) -> None:
    """P4."""
    fakes[0].pictures = True
    ran = asif_build(bad_among_good, "--name", "toy", "--max-bad-rows", "100%")
    assert ran.code == 0, ran.err
    reasons = [reason for _, reason in bad_images().values()]
    opened = Store(home).open("toy")
    found = rejects(home, opened)
    assert (opened.manifest.rows_in, opened.count, opened.manifest.rejected) == (20, 6, 14)
    assert "20 in = 6 kept + 14 rejected" in ran.out
    assert f"rejected rows and reasons: {home / 'anchors' / 'toy' / 'rejects'}" in ran.out
    for row, reason in enumerate(reasons):
        assert reason in found[row]
    kept = {record.captions[0] for record in opened.records(range(6))}
    assert kept == {f"caption {row}" for row in range(11, 17)}
    assert [found[row] for row in (17, 18, 19)] == [
        "caption is null",
        "caption is empty",
        "caption contains a NUL byte",
    ]


@pytest.mark.parametrize(("allowed", "code"), [("1%", 3), ("13", 3), ("14", 0), ("70%", 0), ("0", 3)])
def test_too_many_bad_images_stop_the_build(
    asif_build: Callable[..., Ran],
    fakes: Any,
    bad_among_good: Path,
    home: Path,
    allowed: str,
    code: int,
) -> None:
    fakes[0].pictures = True
    ran = asif_build(bad_among_good, "--name", "toy", "--max-bad-rows", allowed)
    assert ran.code == code
    if code:
        assert "bad rows (row 0: image is null" in ran.err
        assert "allow more with --max-bad-rows" in ran.err
        assert ran.out == ""
        with pytest.raises(NotFound):
            Store(home).open("toy")


@pytest.mark.parametrize("allowed", ["1%", "100%"])
def test_nothing_but_bad_images_is_never_a_set(
    asif_build: Callable[..., Ran],
    fakes: Any,
    tmp_path: Path,
    home: Path,
    allowed: str,
) -> None:
    fakes[0].pictures = True
    bad = [image for image, _ in bad_images().values()]
    path = write_parquet(tmp_path / "bad.parquet", bad, ["a dog"] * len(bad))
    ran = asif_build(path, "--name", "toy", "--max-bad-rows", allowed)
    assert ran.code == 3
    assert ("none of 11 rows can become an anchor" in ran.err) == (allowed == "100%")
    with pytest.raises(NotFound):
        Store(home).open("toy")


def test_bad_images_and_the_real_encoder(tmp_path: Path, image_encoder: Any) -> None:
    bad = list(bad_images().values())[1:]
    rows: list[Any] = [
        (None, image, (f"caption {row}",)) for row, image in enumerate([b for b, _ in bad] + good_images())
    ]
    anchors = build_set(list_source(*rows), tmp_path, image_encoder, max_bad_rows=Tolerance(1.0)).anchors
    found = rejects(tmp_path, anchors)
    assert list(found) == list(range(10))
    assert all(reason in found[row] for row, (_, reason) in enumerate(bad) if reason != "image is empty")
    assert found[0] == "0 bytes"
    assert anchors.count == len(good_images())


# damaged files


def cut_footer(data: bytes) -> bytes:
    return data[:-100]


def flip_page(data: bytes) -> bytes:
    at = data.index(b"image 60")
    return data[: at - 30] + bytes(255 - byte for byte in data[at - 30 : at]) + data[at:]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "0 bytes": (lambda data: b"", ""),
    "no parquet": (lambda data: b"no parquet" * 100, ""),
    "cut in the middle": (lambda data: data[: len(data) // 2], ""),
    "cut in the footer": (cut_footer, ""),
    "a changed page": (flip_page, "row group 1 of 3"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_publishes_nothing(
    asif_build: Callable[..., Ran],
    fakes: Any,
    tmp_path: Path,
    home: Path,
    name: str,
) -> None:
    """P3, through the command."""
    change, place = DAMAGE[name]
    cells = [{"bytes": b"image %d" % row, "path": None} for row in range(ROWS)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "text": [f"caption {row}" for row in range(ROWS)]})
    path = tmp_path / "pairs.parquet"
    pq.write_table(table, path, row_group_size=50, compression="none", use_dictionary=False, write_page_checksum=True)
    sound = path.read_bytes()
    path.write_bytes(change(sound))
    ran = asif_build(path, "--name", "toy")
    assert ran.code == 3
    assert str(path) in ran.err
    assert place in ran.err
    with pytest.raises(NotFound):
        Store(home).open("toy")
    path.write_bytes(sound)
    assert asif_build(path, "--name", "toy").code == 0
    assert Store(home).open("toy").count == ROWS


def test_a_failing_build_leaves_the_old_version(
    asif_build: Callable[..., Ran],
    fakes: Any,
    pairs: Path,
    tmp_path: Path,
    home: Path,
) -> None:
    assert asif_build(pairs, "--name", "toy").code == 0
    old = Store(home).open("toy")
    bad = write_parquet(tmp_path / "bad.parquet", [b"bad 1", b"2"], ["a dog", "a cat"])
    assert asif_build(bad, "--name", "toy").code == 3
    assert Store(home).open("toy").version == old.version
    assert Store(home).verify("toy").problems == ()


@pytest.mark.parametrize("name", ["", "Toy", "a/b", "..", "a\0b", "x" * 65, "\uff41"])
def test_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        build_set(list_source(*some_rows(3)), tmp_path, name=name)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_breaks_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)

    class Broken(FakeImages):
        def prepare(self, source: Any) -> bytes:
            if source == b"image 100":
                raise MemoryError
            return super().prepare(source)

    with pytest.raises(MemoryError):
        build_set(list_source(*some_rows(ROWS)), tmp_path, Broken())
    built = build_set(list_source(*some_rows(ROWS)), tmp_path)
    assert (built.resumed_at, identity(built.anchors)) == (96, identity(whole))


# large


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory as Linux tells it")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """4,000 images of 20 kB are 80 MB."""
    peaks = []
    for rows in (500, 4000):
        path = tmp_path / f"{rows}.parquet"
        noise = [hashlib.shake_128(b"%d" % row).digest(20_000) for row in range(rows)]
        write_parquet(path, noise, [f"caption {row}" for row in range(rows)])
        assert path.stat().st_size > 20_000 * rows
        out, err = (process := driver("memory", path, tmp_path / str(rows))).communicate()
        assert process.returncode == 0, err
        count, peak = map(int, out.split())
        assert count == rows
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 25, peaks
