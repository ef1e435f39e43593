"""Hot swap: each answer names what it comes from and is right for it; what fails to load leaves the old one serving."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support.anchorset_sets import pairs
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_precomputed, make_set
from support.paths import SUPPORT

from asif.aligners import Aligner, make_aligner
from asif.anchorset import Store
from asif.anchorset.format.folder import SetFolder
from asif.classify import Labels
from asif.engine import Classification, Engine, watcher
from asif.engine.purge import purge_pairs
from asif.errors import AsifError, Conflict, IntegrityError, NotFound, UsageError
from asif.kernels import cpu, native_binding, quantised, topk_similarity
from asif.vectors import Embeddings

LABELS = Labels(("cat", "dog", "owl", "newt"))
QUESTIONS = [Labels((f"thing {number}", "other")) for number in range(3)]
IMAGES = Embeddings.from_raw(np.random.default_rng(3).standard_normal((8, IMAGE_DIM)))
NAMES = ("one", "two", "three")
IDS = sorted(pair.id for pair in pairs(20))
PATIENCE = 20.0


@pytest.fixture
def sets(home: Path, hashing: None) -> Path:
    """Return a store with three sets that differ, and let engines load fake encoders."""
    for seed, name in enumerate(NAMES):
        make_set(home, name, seed=seed, count=20 + seed).close()
    return home


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines look often."""
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.01)


def engine_of(home: Path, ref: str = "one", aligner: str = "asif", **given: Any) -> Engine:
    return Engine(ref, home=home, aligner=make_aligner(aligner), **given)


def plain(results: Sequence[Classification]) -> list[Any]:
    return [result.predictions for result in results]


def digest(results: Sequence[Classification]) -> str:
    """Return the one digest that all results name."""
    (found,) = {result.anchors.digest for result in results if result.anchors is not None}
    return found


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.005)


# ---- every answer comes from one version, and names it


@pytest.mark.slow
@pytest.mark.parametrize("aligner", ["asif", "cca+0.5*asif"])
def test_answers_are_right_for_the_digest_they_name(sets: Path, aligner: str) -> None:
    home, rounds = sets, 40
    oracle = {}
    for ref in (*NAMES, "one+two"):
        alone = engine_of(home, ref, aligner)
        for labels in QUESTIONS:
            oracle[alone.anchors.digest, labels] = plain(alone.classify_vectors(IMAGES, labels))
    assert len({str(answers) for answers in oracle.values()}) == 4 * len(QUESTIONS)
    engine, done, stop = engine_of(home, "one", aligner), [0] * 8, threading.Event()
    seen: set[str] = set()

    def ask(number: int) -> None:
        turn = 0
        while not stop.is_set():
            labels = QUESTIONS[(turn + number) % len(QUESTIONS)]
            union = {"anchors": "one+two"} if turn % 5 == 4 else {}
            results = engine.classify_vectors(IMAGES, labels, **union)
            assert plain(results) == oracle[digest(results), labels]
            assert (digest(results) == both) == bool(union)
            seen.add(digest(results))
            done[number] += 1
            turn += 1

    both = engine_of(home, "one+two").anchors.digest
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        for turn in range(rounds):
            engine.swap(NAMES[(turn + 1) % 3])
            results = engine.classify_vectors(IMAGES, LABELS)
            assert digest(results) == engine.anchors.digest  # new calls see the new one at once
        until(lambda: min(done) > 10 or any(future.done() for future in asking))
        stop.set()
        for future in asking:
            future.result()
    assert len(seen) == 4


def test_images_too_name_what_they_come_from(sets: Path) -> None:
    engine = engine_of(sets)
    for name in NAMES:
        engine.swap(name)
        result, bad = engine.classify([b"image", b"bad"], LABELS)
        assert result.anchors == bad.anchors == engine.anchors.named
        assert result.anchors is not None and result.anchors.name == name and bad.error is not None


# ---- a swap is prepared while the old set serves


def test_blocks_come_to_the_device_while_the_old_set_serves(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, arriving, arrived = engine_of(sets), threading.Event(), threading.Event()
    expected = plain(engine.classify_vectors(IMAGES, LABELS))
    there: set[int] = set()
    begun: list[str] = []

    def search(queries: Any, blocks: Any, k: int, *, engine: Any) -> Any:
        """Stand for an engine on a device: blocks that it does not have are brought there first."""
        if swapping and not {id(block) for block in blocks} <= there:
            begun.append(threading.current_thread().name)
            arriving.set()
            assert arrived.wait(PATIENCE)
            there.update(id(block) for block in blocks)
        return topk_similarity(queries, blocks, k, engine=engine)

    swapping = False
    monkeypatch.setattr("asif.aligners.relative.topk_similarity", search)
    there.update(id(block) for side in ("image", "text") for block in engine.anchors.blocks(side))  # type: ignore[arg-type]
    swapping = True
    thread = threading.Thread(target=engine.swap, args=("two",), name="swapping")
    thread.start()
    assert arriving.wait(PATIENCE)
    for _ in range(3):  # the upload has begun, and not ended
        results = engine.classify_vectors(IMAGES, LABELS)
        assert (digest(results), plain(results)) == (engine.anchors.digest, expected)
        assert engine.anchors.name == "one"
    arrived.set()
    thread.join()
    assert engine.anchors.name == "two"
    engine.classify_vectors(IMAGES, LABELS)
    assert set(begun) == {"swapping"}  # the first call found all blocks there


@pytest.mark.parametrize("task", ["classify", "search"])
def test_what_was_asked_is_fitted_before_the_switch(sets: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(sets, aligner="cca")
    engine.swap("two")  # nobody asked anything yet: labels are likely
    assert engine.role("classify").is_fitted and not engine.role("search").is_fitted
    engine = engine_of(sets, aligner="cca")
    _ = engine.role(task).fitted
    if task == "classify":
        engine.classify_vectors(IMAGES, LABELS)
    fitted: list[str] = []
    from asif.engine import snapshots

    fit = snapshots.fit_aligner

    def noted(aligner: Aligner, anchors: Any, kernel: Any) -> Any:
        fitted.append(f"{engine.anchors.name} while {anchors.name} was fitted")
        return fit(aligner, anchors, kernel)

    monkeypatch.setattr(snapshots, "fit_aligner", noted)
    engine.swap("two")
    assert fitted == ["one while two was fitted"]
    assert [engine.role(each).is_fitted for each in ("classify", "search")] == [task == "classify", task == "search"]  # type: ignore[arg-type]
    assert engine._snapshot.represented.keys() == ([LABELS] if task == "classify" else [])


def test_a_fit_that_fails_leaves_the_old_set_serving(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(sets)
    before, expected = engine.anchors, plain(engine.classify_vectors(IMAGES, LABELS))

    def fail(*given: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("asif.engine.snapshots.fit_aligner", fail)
    with pytest.raises(MemoryError):
        engine.swap("two")
    assert engine.anchors is before and engine.follows == "one"
    assert plain(engine.classify_vectors(IMAGES, LABELS)) == expected


# ---- memory comes back


@pytest.mark.slow
@pytest.mark.parametrize("aligner", ["asif", "asif(centre=true)", "cca", "cca+0.5*asif"])
def test_old_sets_go_when_the_last_call_on_them_ends(sets: Path, aligner: str) -> None:
    named = make_aligner("asif", centre=True) if "centre" in aligner else make_aligner(aligner)
    engine = Engine("one", home=sets, aligner=named)
    engine.classify_vectors(IMAGES, LABELS, explain=2, where="id != 'x'")
    engine.classify_vectors(IMAGES, LABELS, explain=2)
    waiting = engine.classify([b"a", b"b"], LABELS)
    old = [
        weakref.ref(engine.anchors),
        weakref.ref(engine.role().fitted),
        weakref.ref(engine._snapshot),
    ]
    old += [weakref.ref(view.anchors) for view in engine._snapshot.views.values()]
    blocks = [weakref.ref(block) for block in engine.anchors.blocks("image")]
    engine.swap("two")
    gc.collect()
    assert old[0]() is not None  # a call is in flight
    assert {result.anchors.name for result in waiting if result.anchors} == {"one"}
    del waiting
    gc.collect()
    assert [ref() for ref in old + blocks] == [None] * len(old + blocks)


@pytest.mark.slow
@pytest.mark.skipif(not native_binding.is_available(), reason="no compiled kernels")
def test_swap_quantises_so_that_no_call_waits_for_it(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def quantise(block: Any, code: int, width: int) -> Any:
        made.append(len(block))
        return original(block, code, width)

    original = quantised.quantise
    monkeypatch.setattr(quantised, "quantise", quantise)
    monkeypatch.setattr(quantised, "_MIN_BYTES", 0)
    monkeypatch.setattr(cpu, "SMALL_ANCHORS", 0)
    engine = engine_of(sets)
    engine.classify_vectors(Embeddings.from_raw(np.eye(1, IMAGE_DIM)), ["a", "b"])
    engine.swap("two")
    assert made == [21, 21]
    engine.classify_vectors(Embeddings.from_raw(np.eye(1, IMAGE_DIM)), ["a", "b"])
    assert made == [21, 21]


def test_memory_stays_the_same_over_many_swaps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asif.anchorset.select.view._MIN_MAPPED_ROWS", 10_000
    )  # a view is a copy, other anchors each time
    random = np.random.default_rng(0)
    from asif.engine import build_anchors

    for name in ("big", "bigger"):
        (home.parent / name).mkdir()
        for side, dim in (("img", 96), ("text", 64)):
            vectors = random.standard_normal((3000, dim)).astype(np.float32)
            np.save(home.parent / name / f"{side}_emb_0.npy", vectors)
        build_anchors(home.parent / name, name, home=home)
    engine, labels = engine_of(home, "big"), Labels(tuple(map(str, range(20))))
    images, prompts = (Embeddings.from_raw(random.standard_normal((n, d))) for n, d in ((4, 96), (20, 64)))

    def some(turns: int) -> int:
        for turn in range(turns):
            engine.swap(("big", "bigger")[turn % 2], where=f"id != '{turn}'")
            engine.classify_vectors(images, labels, prompts)
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    before = some(20)
    grown = (some(60) - before) / 60
    assert grown < 200_000, f"{grown:,.0f} bytes a swap, of sets of {3000 * 160 * 2:,}"


# ---- what fails to load


def spoil_manifest(home: Path) -> None:
    path = SetFolder(home / "anchors" / "two", "two")
    file = path.version_file(path.resolve(None))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def cut_block(home: Path) -> None:
    block = next((home / "anchors" / "two" / "blocks").iterdir())
    block.write_bytes(block.read_bytes()[:-1])


def lose_block(home: Path) -> None:
    next((home / "anchors" / "two" / "blocks").iterdir()).unlink()


def lose_version(home: Path) -> None:
    next((home / "anchors" / "two" / "versions").iterdir()).unlink()  # the alias dangles


FAILURES = [spoil_manifest, cut_block, lose_block, lose_version]


@pytest.mark.parametrize("spoil", FAILURES)
@pytest.mark.parametrize(("swap", "which"), [(True, "two"), (True, "one+two"), (False, "two"), (False, "one+two")])
def test_what_is_damaged_is_refused_and_the_old_set_serves(sets: Path, spoil: Any, swap: bool, which: str) -> None:
    engine = engine_of(sets)
    before, expected = engine.anchors, plain(engine.classify_vectors(IMAGES, LABELS))
    spoil(sets)
    with pytest.raises(IntegrityError):
        engine.swap(which) if swap else engine.classify_vectors(IMAGES, LABELS, anchors=which)
    assert engine.anchors is before
    assert plain(engine.classify_vectors(IMAGES, LABELS)) == expected
    engine.swap("three")
    assert engine.anchors.name == "three"


# ---- watching


@pytest.fixture
def mover(home: Path) -> Iterator[Callable[[str, str], str]]:
    """Return what publishes versions of `one` and moves its aliases, in another process."""
    script = SUPPORT / "swap_mover.py"
    command = [sys.executable, str(script), str(home), "one"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def move(what: str, argument: str) -> str:
        print(what, argument, file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    yield move
    process.stdin.close()
    assert process.wait(PATIENCE) == 0
    process.stdout.close()


@pytest.mark.slow
def test_an_alias_moved_by_another_process_is_followed(
    sets: Path, mover: Callable[[str, str], str], prompt: None
) -> None:
    with engine_of(sets, "one", watch=True) as engine:
        first = engine.anchors
        assert engine.watching == watcher.WatchState("one", engine.exactly, None)
        oracle = {first.digest: plain(engine.classify_vectors(IMAGES, LABELS))}
        stop, wrong = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                results = engine.classify_vectors(IMAGES, LABELS)
                if plain(results) != oracle.setdefault(digest(results), plain(results)):
                    wrong.append(digest(results))

        asking = threading.Thread(target=ask)
        asking.start()
        for number in IDS[:4]:
            version = mover("remove", number)
            until(lambda version=version: engine.exactly == (f"one@{version}",))  # type: ignore[misc]
        mover("current", "1")
        until(lambda: engine.anchors.digest == first.digest)
        stop.set()
        asking.join()
        assert not wrong and len(oracle) == 5
        for found, answers in oracle.items():
            version = next(v for v in SetFolder(sets / "anchors" / "one", "one").versions() if v[7:] == found[:12])
            assert plain(engine_of(sets, f"one@{version}").classify_vectors(IMAGES, LABELS)) == answers
        assert engine.watching is not None and engine.watching.error is None
    Store(sets).remove("one", IDS[5:6])
    time.sleep(0.1)
    assert engine.watching is None and engine.anchors.digest == first.digest  # closed: it does not follow any more


def test_only_the_alias_that_was_named_is_followed(sets: Path, prompt: None) -> None:
    store = Store(sets)
    store.alias("one", "best", "1")
    with engine_of(sets, "one@best+two", watch=True) as engine:
        assert engine.anchors.count == 41
        store.remove("one", IDS[:3])
        time.sleep(0.15)
        assert engine.anchors.count == 41
        store.alias("one", "best", "2")
        until(lambda: engine.anchors.count == 38)
        store.remove("two", where="licence = 'CC-BY-4.0'")
        until(lambda: engine.anchors.count == 17 + store.open("two").count)
        engine.swap("three")
        store.alias("one", "best", "1")
        time.sleep(0.15)
        assert engine.anchors.name == engine.follows == "three"
        with pytest.raises(UsageError, match="three@1 cannot move"):
            engine.swap("three@1")
        version = store.remove("three", where="licence = 'CC-BY-4.0'").version
        until(lambda: engine.exactly == (f"three@{version}",))


@pytest.mark.parametrize("ref", ["one@1", "one@1+two@1"])
def test_what_cannot_move_is_not_watched(sets: Path, ref: str) -> None:
    threads = threading.active_count()
    with pytest.raises(UsageError, match="cannot move, and the engine watches"):
        engine_of(sets, ref, watch=True)
    with pytest.raises(NotFound):
        engine_of(sets, "missing", watch=True)
    assert threading.active_count() == threads
    assert engine_of(sets, ref).watching is None


@pytest.mark.parametrize("spoil", FAILURES)
def test_a_version_that_fails_to_load_is_named_once_and_tried_again(
    sets: Path, spoil: Any, prompt: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "RETRY_SECONDS", 0.03)
    store, folder = Store(sets), sets / "anchors" / "two"
    with engine_of(sets, "two", watch=True) as engine, caplog.at_level(logging.ERROR):
        first, expected = engine.anchors, plain(engine.classify_vectors(IMAGES, LABELS))
        second = store.remove("two", [pairs(1, start=1000)[0].id])
        until(lambda: engine.anchors.digest == second.digest)
        store.rollback("two")
        until(lambda: engine.anchors.digest == first.digest)
        kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        engine_state = engine.anchors
        broken = folder / "versions" / f"{second.version}.json"
        if spoil is lose_version:
            broken.unlink()
        elif spoil is spoil_manifest:
            broken.write_bytes(kept[broken][:-9])
        else:
            spoil(sets)
        seal_alias(folder, second.version)
        until(lambda: engine.watching is not None and engine.watching.error is not None)
        time.sleep(0.15)  # many looks, and some attempts
        assert engine.anchors is engine_state and engine.follows == "two"
        assert plain(engine.classify_vectors(IMAGES, LABELS)) == expected
        assert engine.watching is not None
        assert isinstance(engine.watching.error, AsifError)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "two moved, but the old version is still served: " in caplog.text
        for path, content in kept.items():
            if path.name != "aliases.json":
                path.write_bytes(content)  # it is repaired
        until(lambda: engine.anchors.digest == second.digest)
        until(lambda: engine.watching is not None and engine.watching.error is None)


def seal_alias(folder: Path, version: str) -> None:
    """Point `current` at a version, whether it is there or not."""
    SetFolder(folder, folder.name).set_alias("current", version)


def test_unforeseen_errors_do_not_end_the_watch(
    sets: Path, prompt: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "RETRY_SECONDS", 0.03)
    with engine_of(sets, "one", watch=True) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("asif.engine.snapshots.fit_aligner", lambda *given: 1 / 0)
            second = Store(sets).remove("one", IDS[:1])
            until(lambda: isinstance(engine.watching and engine.watching.error, ZeroDivisionError))
        assert "ZeroDivisionError" in caplog.text
        until(lambda: engine.anchors.digest == second.digest)


def test_a_forgotten_engine_ends_its_thread(sets: Path, prompt: None) -> None:
    engine = engine_of(sets, "one", watch=True)
    assert engine._watcher is not None
    thread, gone = engine._watcher._thread, weakref.ref(engine)
    assert thread.is_alive() and thread.daemon
    until(lambda: Store(sets).stamp("one") is not None)
    del engine
    until(lambda: gc.collect() >= 0 and gone() is None)
    until(lambda: not thread.is_alive())
    other = engine_of(sets, "one", watch=True)
    assert other._watcher is not None
    thread = other._watcher._thread
    other.close()
    other.close()
    assert not thread.is_alive()
    assert other.classify_vectors(IMAGES, LABELS)


def test_a_look_costs_no_reading_once_a_file_is_settled(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 3600.0)
    with engine_of(sets, "one", watch=True) as engine:
        watch, resolved = engine._watcher, []
        assert watch is not None
        real = Store.resolve
        monkeypatch.setattr(Store, "resolve", lambda store, ref: resolved.append(ref) or real(store, ref))
        for _ in range(3):
            watch.look(engine)
        assert resolved == ["one"] * 3  # the file is young: the next move may look the same
        monkeypatch.setattr(watcher, "SETTLED_SECONDS", 0.0)
        for _ in range(3):
            watch.look(engine)
        assert resolved == ["one"] * 4
        version = Store(sets).remove("one", IDS[:1]).version
        watch.look(engine)
        assert engine.exactly == (f"one@{version}",)


def test_precomputed_vectors_are_swapped_too(sets: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "pairs", sets).close()
    engine, prompts = engine_of(sets), Embeddings.from_raw(np.random.default_rng(4).standard_normal((4, TEXT_DIM)))
    engine.classify_vectors(IMAGES, LABELS)
    engine.swap("vectors")
    assert digest(engine.classify_vectors(IMAGES, LABELS, prompts)) == engine.anchors.digest
    engine.swap("one")
    assert digest(engine.classify_vectors(IMAGES, LABELS)) == engine.anchors.digest


# ---- a served version that is deleted


def purge_first(home: Path, ref: str = "one") -> str:
    """Purge a pair, and with it all older versions; return its id."""
    with Store(home).open(ref) as anchors:
        name = anchors.records([0])[0].id
    purge_pairs(ref, [name], home=home)
    return name


@pytest.mark.parametrize("named", [{}, {"anchors": "one"}, {"anchors": "one+two"}])
def test_a_deleted_version_is_explained_by_the_current_one(sets: Path, named: dict[str, str]) -> None:
    engine = engine_of(sets)
    before = engine.classify_vectors(IMAGES, LABELS, **named)
    gone = purge_first(sets)
    current = engine_of(sets).classify_vectors(IMAGES, LABELS, explain=3, **named)
    if named.get("anchors") is None:
        assert plain(engine.classify_vectors(IMAGES, LABELS, **named)) == plain(before)  # the blocks are still mapped
    found = engine.classify_vectors(IMAGES, LABELS, explain=3, **named)
    assert digest(found) == digest(current) != digest(before) and plain(found) == plain(current)
    pairs = [pair.id for result in found if result.evidence is not None for pair in result.evidence.records]
    assert len(pairs) == 3 * len(found) and gone not in pairs
    if named.get("anchors") is None:
        assert engine.exactly == engine_of(sets).exactly


def test_images_too_are_explained_by_the_current_version(sets: Path) -> None:
    engine = engine_of(sets)
    results = engine.classify([b"image %d" % row for row in range(100)], LABELS, explain=2)
    purge_first(sets)
    found = list(results)
    assert len(found) == 100
    assert digest(found) == engine_of(sets).anchors.digest and all(result.evidence for result in found)


def test_a_version_that_was_named_stays_deleted(sets: Path) -> None:
    engine = engine_of(sets, Store(sets).open("one").exactly)
    purge_first(sets)
    with pytest.raises(Conflict, match="deleted"):
        engine.classify_vectors(IMAGES, LABELS, explain=1)
    with pytest.raises(Conflict, match="deleted"):
        list(engine.classify([b"image"], LABELS, explain=1))
    assert len(engine.classify_vectors(IMAGES, LABELS)) == len(IMAGES)


def test_an_engine_that_keeps_previous_anchors_goes_back_to_them_as_they_were(sets: Path) -> None:
    engine = engine_of(sets, previous=1)
    expected = plain(engine.classify_vectors(IMAGES, LABELS))
    first = engine._snapshot
    engine.swap("two")
    engine.swap("one")
    assert engine._snapshot is first and first.represented.get(LABELS) is not None
    assert plain(engine.classify_vectors(IMAGES, LABELS)) == expected
    engine.swap("two")
    engine.swap("three")  # two are in memory: three and two
    engine.swap("one")
    assert engine._snapshot is not first
    assert plain(engine.classify_vectors(IMAGES, LABELS)) == expected


def test_previous_anchors_that_were_deleted_or_changed_are_not_gone_back_to(sets: Path) -> None:
    engine = engine_of(sets, "one@1", previous=1)
    Store(sets).remove("one", [IDS[0]])
    engine.swap("one")
    purge_pairs("one", [IDS[1]], home=sets)  # with the versions that have it
    with pytest.raises(NotFound):
        engine.swap("one@1")


def test_other_engines_release_the_anchors_that_they_served(sets: Path) -> None:
    engine = engine_of(sets)
    old = weakref.ref(engine.anchors)
    engine.swap("two")
    gc.collect()
    assert old() is None
