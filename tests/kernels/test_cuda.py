"""The engine for CUDA devices: on a device where there is one, in Triton's interpreter where not."""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.kernels_cases import (
    BFLOAT16,
    CUDA,
    DTYPES,
    FLOAT16,
    FLOAT32,
    HARD,
    Case,
    Rows,
    aligned,
    assert_same,
    cut,
    hard,
    interpret,
    near_ties,
    oracle,
    poisoned,
    raised,
    ranked,
    repeated,
    stored,
    tied_rows,
    unit,
)
from support.late import late
from support.paths import SUPPORT

from asif.errors import BadEmbedding, MissingDependency, OutOfSpace, UsageError
from asif.kernels import canonical, reference, topk_similarity
from asif.kernels.canonical import round_to_grid
from asif.kernels.quantised import is_immutable
from asif.vectors import Float32, TopK

if TYPE_CHECKING:
    import torch

    from asif.kernels import cuda, cuda_sparse, device_cache, torch_
else:
    modules = ("cuda", "cuda_sparse", "device_cache", "torch_")
    torch, cuda, cuda_sparse, device_cache, torch_ = late("torch", *(f"asif.kernels.{name}" for name in modules))

# anchors, queries, k
SIZES: list[tuple[int, ...]] = [(1, 1, 1), (7, 2, 3), (13, 4, 13), (13, 2, 23), (67, 2, 14), (67, 5, 5), (300, 1, 20)]
SIZES += [(300, 3, 2)]
if CUDA:
    SIZES += itertools.product((1, 7, 13, 67, 300), (1, 2, 3, 5, 8, 9, 17, 33, 67), (1, 7, 301))
DEVICE = "cuda" if CUDA else "cpu"


def here() -> torch.device:
    return torch.device(DEVICE)


@dataclass
class Steered:
    """Take the place of Plan: what it decides is set, and which queries were asked again is written down."""

    share: float = 0.25
    rank: int = 4
    room: float = 1.0  # for all anchors
    again: list[int] = field(default_factory=list)

    def __call__(self, count: int, k: int) -> Any:
        size = max(1, int(count * self.share))
        capacity = max(k, int(count * self.room))
        return SimpleNamespace(size=size, rank=min(self.rank, size), capacity=capacity, direct=k > count)


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> Steered:
    """Let every search that can be filtered be filtered, however small it is."""
    if not CUDA:
        interpret(monkeypatch)
        monkeypatch.setattr(cuda, "FEW_QUERIES", 2)  # so that few queries, which are slow there, take either path
    monkeypatch.setattr(cuda, "allocate", poisoned)
    plan, directly = Steered(), cuda.DeviceSearch.search_exactly

    def noted(search: cuda.DeviceSearch, some: torch.Tensor, segment: device_cache.DeviceBlock) -> torch.Tensor:
        if len(segment.rows) >= search.k:
            plan.again += some.tolist()
        return directly(search, some, segment)

    monkeypatch.setattr(cuda, "SearchPlan", plan)
    monkeypatch.setattr(cuda.DeviceSearch, "search_exactly", noted)
    return plan


def tensor(rows: Rows) -> torch.Tensor:
    return torch_.as_tensor(np.ascontiguousarray(rows)).to(DEVICE)


def ask(queries: Float32, blocks: list[Rows], k: int) -> TopK:
    indices, scores = cuda.topk_of_tensors(tensor(queries), [tensor(block) for block in blocks], k)
    assert (indices.device.type, scores.device.type) == (DEVICE, DEVICE)
    return TopK(indices.cpu().numpy(), scores.cpu().numpy())


def test_kernels_are_interpreted_where_there_is_no_device() -> None:
    kind = type(cuda.load_triton().propose).__name__
    assert kind == ("JITFunction" if CUDA else "InterpretedFunction")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [1, 33, 64, 130])
def test_equal_to_the_definition_at_awkward_sizes(dim: int, dtype: Any, steered: Steered) -> None:
    for count, asked, k in SIZES:
        queries, anchors = unit(asked, dim, 2), stored(count, dim, dtype)
        steered.again.clear()
        found = ask(queries, [anchors], k)
        assert found.indices.shape == (asked, min(k, count))
        assert_same(found, oracle(queries, anchors, k))
        if dim > 1 and (count, k) == (300, 2):  # so the answer is the filter's
            assert len(steered.again) < asked


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("asked", [1, 2, 3, 5, 8])
def test_a_few_queries_have_a_path_of_their_own(
    asked: int, dtype: Any, steered: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "FEW_QUERIES", 8)
    monkeypatch.setattr(cuda, "choose_many_tiles", None)  # the other is not taken
    steered.rank = 12
    queries, anchors = unit(asked, 40, 3), stored(150, 40, dtype)
    assert_same(ask(queries, [anchors], 3), oracle(queries, anchors, 3))
    assert not steered.again


@pytest.mark.parametrize("group", [1, 3, 8])
def test_every_tile_is_met_once(group: int, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"QUERIES": 16, "ANCHORS": 32, "DIMS": 16, "GROUP": group, "num_warps": 4, "num_stages": 2}
    monkeypatch.setattr(cuda, "choose_many_tiles", lambda asked: shape)
    queries, anchors = unit(35, 20, 3), stored(150, 20, FLOAT16)  # 3 tiles by 5
    search, segment = cuda.DeviceSearch(tensor(queries), 3), device_cache.DeviceBlock(tensor(anchors), 0)
    everything = torch.full((35,), -torch.inf, device=DEVICE)
    entries, counts = search.propose(slice(0, 35), segment, everything, 5)
    words = [(number << 32) | (2**32 - 1 if number < 4 else 2**22 - 1) for number in range(5)]
    assert counts.tolist() == [5] * 35
    assert entries.sort(dim=1).values.tolist() == [words] * 35


def test_equal_to_the_reference_itself(steered: Steered) -> None:
    steered.rank = 16
    for asked in (2, 5):
        queries, anchors = unit(asked, 20, 3), stored(67, 20, FLOAT32)
        assert_same(ask(queries, [anchors], 9), reference.topk_similarity(queries, [anchors], 9))
    assert not steered.again


@pytest.mark.parametrize("asked", [2, 4])
@pytest.mark.parametrize("kind", tied_rows())
def test_ties_go_to_the_smaller_index(kind: str, asked: int, steered: Steered) -> None:
    axes = np.eye(4, dtype=np.float32)
    queries = np.concatenate([unit(4, 4), axes, -axes])[-asked:]
    for dtype, k, places in ((FLOAT16, 1, []), (FLOAT32, 3, []), (BFLOAT16, 2, [1, 2]), (FLOAT16, 99, [])):
        anchors = tied_rows()[kind].astype(dtype)
        assert_same(ask(queries, cut(anchors, places), k), oracle(queries, anchors, k))


def of_type(case: Case, dtype: Any) -> Case:
    return Case(case.queries, case.anchors.astype(dtype), case.k)


HARDEST: dict[str, Callable[[int], Case]] = {
    "best last": lambda asked: ranked(200, 32, asked, 9, FLOAT16),
    "best last, float32": lambda asked: ranked(200, 32, asked, 9, FLOAT32),
    "best first": lambda asked: ranked(200, 32, asked, 9, FLOAT16, -1),
    "all equal": lambda asked: repeated(1, 250, 33, asked, 7, FLOAT16),
    "repeated": lambda asked: repeated(5, 250, 33, asked, 90, FLOAT32),
    "every 7th": lambda asked: raised(asked, 280, 42, slice(None, None, 7)),
    "every 32nd": lambda asked: raised(asked, 280, 9, slice(None, None, 32), FLOAT32),
    "near ties": lambda asked: near_ties(160, 64, asked, 10, FLOAT32, 3e-4),
    "nearer ties": lambda asked: near_ties(160, 128, asked, 10, FLOAT32, 3e-7),
    "rounded anchors lose": lambda asked: aligned(asked, 64, 160, half=FLOAT16),
    "rounded queries lose": lambda asked: of_type(aligned(asked, 64, 160, moved="queries", half=FLOAT16), FLOAT16),
    "rounded queries lose, bfloat16": lambda asked: of_type(aligned(asked, 64, 160, moved="queries"), BFLOAT16),
}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [2, 4])
@pytest.mark.parametrize("name", HARDEST)
def test_nothing_leads_astray(name: str, asked: int, steered: Steered) -> None:
    hardest = HARDEST[name](asked)
    steered.share, steered.rank = 0.1, max(8, hardest.k // 5)
    if "lose" in name:  # floors proven by one block make rounding tell in the next
        assert_same(ask(hardest.queries, hardest.blocks, hardest.k), hardest.expected)
        return
    assert_same(ask(hardest.queries, [hardest.anchors], hardest.k), hardest.expected)
    assert len(steered.again) < asked or name == "nearer ties"  # so the answer is the filter's


@pytest.mark.parametrize("asked", [2, 4])
@pytest.mark.parametrize("name", ["best last", "all equal", "repeated", "near ties"])
def test_nothing_leads_astray_where_lists_are_full(name: str, asked: int, steered: Steered) -> None:
    hardest = HARDEST[name](asked)
    steered.share, steered.rank, steered.room = 0.1, max(2, hardest.k // 5), 0.01
    assert_same(ask(hardest.queries, hardest.blocks, hardest.k), hardest.expected)
    assert set(steered.again) == set(range(asked))


@pytest.mark.parametrize("asked", [2, 4])
def test_lists_that_are_full_drop_nothing(asked: int, steered: Steered) -> None:
    queries, anchors = unit(asked, 32, 3), stored(300, 32, FLOAT16)
    expected = oracle(queries, anchors, 20)
    for rank, room, everyone in ((270, 1.0, False), (270, 0.07, True), (1, 1.0, True), (30, 1.0, False)):
        steered.share, steered.rank, steered.room = 0.9, rank, room
        steered.again.clear()
        assert_same(ask(queries, [anchors], 20), expected)
        assert steered.again == (list(range(asked)) if everyone else [])


@pytest.mark.parametrize("asked", [2, 4])
def test_words_of_one_anchor_fill_lists(asked: int, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    """More words than there is room for, the best of them last; the second list is short enough."""
    monkeypatch.setattr(cuda.DeviceSearch, "guess_floors", lambda *_: torch.full((asked,), 0.5, device=DEVICE))
    steered.room = 5 / 640
    first = np.full(640, 0.1)
    first[31::32] = np.linspace(0.6, 0.9, 20)
    anchors = np.stack([first, np.sqrt(1 - first**2)], axis=1).astype(np.float32)
    queries = np.tile(np.float32([[1, 0]]), (asked, 1))
    assert_same(ask(queries, [anchors], 3), oracle(queries, anchors, 3))
    assert steered.again == list(range(asked))
    steered.room, steered.again = 20 / 640, []
    assert_same(ask(queries, [anchors], 3), oracle(queries, anchors, 3))
    assert not steered.again


def test_words_of_many_anchors_fill_lists_too(steered: Steered) -> None:
    """Few words, but more anchors in them than there is room for: the second list overflows, not the first."""
    steered.share, steered.rank, steered.room = 0.5, 200, 0.05
    queries, anchors = unit(3, 16, 3), np.repeat(stored(15, 16, FLOAT16), 32, axis=0)
    assert_same(ask(queries, [anchors], 40), oracle(queries, anchors, 40))
    assert steered.again == list(range(3))


@pytest.mark.parametrize("asked", [2, 4])
def test_segments_raise_the_floors_of_each_other(asked: int, steered: Steered) -> None:
    steered.rank = 10**6  # guesses are as low as can be: floors come from the segments before
    queries, anchors = unit(asked, 24, 3), stored(300, 24, FLOAT32)
    blocks = cut(anchors, [5, 5, 100, 101, 220])
    assert_same(ask(queries, blocks, 8), oracle(queries, anchors, 8))
    assert not steered.again


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(60) if CUDA else 8,
)
@given(data=st.data())
def test_independent_of_every_cut(steered: Steered, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    dtype, kind = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(HARD))
    seed, dim = data.draw(st.integers(0, 2**20)), data.draw(st.sampled_from([1, 2, 31, 64, 65]))
    count, asked = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 6))
    anchors, queries = hard(kind, count, dim, dtype, seed), hard(kind, asked, dim, FLOAT32, seed + 1)
    shared = min(count, asked) // 2
    queries[:shared] = anchors[:shared].astype(np.float32)
    k = data.draw(st.sampled_from([1, 2, count // 3 + 1, count, count + 2]))
    steered.share, steered.rank = data.draw(st.sampled_from([0.05, 0.3, 1.0])), data.draw(st.integers(1, 40))
    steered.room = data.draw(st.sampled_from([0.0, 0.2, 1.0]))
    blocks = cut(anchors, data.draw(st.lists(st.integers(0, count), max_size=2)))
    monkeypatch.setattr(cuda, "LIST_BYTES", data.draw(st.sampled_from([1, 40_000, 2**30])))
    monkeypatch.setattr(cuda, "SAMPLE_BYTES", data.draw(st.sampled_from([1, 2**28])))
    assert_same(ask(queries, blocks, k), oracle(queries, anchors, k))


# Several devices, and anchors on their way


class Serial:
    """Take the place of a pool of threads: the interpreter runs one kernel at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *problem: object) -> None: ...

    def map(self, work: Callable[[int], Any], items: range) -> list[Any]:
        assert len(items) == self.count > 1
        return [work(item) for item in items]


@pytest.mark.parametrize("asked", [2, 4])
@pytest.mark.parametrize("parts", [2, 3])
def test_devices_share_the_anchors(parts: int, asked: int, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "ThreadPoolExecutor", Serial)
    monkeypatch.setattr(device_cache, "list_devices", lambda: [here()] * parts)
    monkeypatch.setattr(device_cache, "MIN_DEVICE_BYTES", 1)
    queries, anchors = unit(asked, 24, 3), np.repeat(stored(100, 24, FLOAT16), 3, axis=0)
    blocks = cut(anchors, [90, 90, 110, 250])
    dealt = device_cache.distribute_blocks(blocks)
    sizes = [[(segment.first, len(segment.rows)) for segment in segments] for _, segments in dealt]
    assert sizes == {2: [[(0, 250)], [(250, 50)]], 3: [[(0, 110)], [(110, 140)], [(250, 50)]]}[parts]
    for k in (1, 20, 400):
        assert_same(topk_similarity(queries, blocks, k, engine="cuda"), oracle(queries, anchors, k))


def test_a_share_may_hold_fewer_than_k(steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "ThreadPoolExecutor", Serial)
    queries, anchors = unit(4, 24, 3), stored(60, 24, FLOAT16)
    parts = [
        (here(), [device_cache.DeviceBlock(tensor(anchors[:50]), 0)]),
        (here(), [device_cache.DeviceBlock(tensor(anchors[50:]), 50)]),
    ]
    assert_same(torch_.unpack_topk(cuda.search_devices(tensor(queries), parts, 30)), oracle(queries, anchors, 30))


@pytest.mark.parametrize("dtypes", [[FLOAT16], [BFLOAT16], [FLOAT32, FLOAT16, FLOAT16, BFLOAT16], [np.float64]])
@pytest.mark.parametrize("asked", [2, 4])
def test_anchors_stream(dtypes: list[Any], asked: int, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_cache, "CHUNK_BYTES", 6_000)
    queries, anchors = unit(asked, 24, 3), stored(400, 24, dtypes[0])
    blocks = [rows.astype(dtypes[at % len(dtypes)]) for at, rows in enumerate(cut(anchors, [3, 3, 70, 300]))]
    given = np.concatenate([block.astype(np.float32) for block in blocks])
    assert len(list(device_cache.stream_blocks(device_cache.number_blocks(blocks), here()))) > 3
    assert_same(topk_similarity(queries, blocks, 30, engine="cuda"), oracle(queries, given, 30))
    assert_same(topk_similarity(queries, [block[::-1] for block in blocks[::-1]], 30, engine="cuda"),
                oracle(queries, given[::-1], 30))  # fmt: skip


def test_chunks_are_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [stored(count, 5, dtype, count) for count, dtype in ((9, FLOAT16), (0, FLOAT16), (40, FLOAT16),
                                                                 (3, FLOAT32), (1, FLOAT16), (2, FLOAT16))]  # fmt: skip
    for limit in (1, 50, 200, 2**20):
        monkeypatch.setattr(device_cache, "CHUNK_BYTES", limit)
        seen = [
            (chunk.first, chunk.rows.cpu().clone())
            for chunk in device_cache.stream_blocks(device_cache.number_blocks(blocks), here())
        ]
        assert [first for first, _ in seen] == np.cumsum([0, *(len(rows) for _, rows in seen[:-1])]).tolist()
        joined = np.concatenate([rows.float().numpy() for _, rows in seen])
        np.testing.assert_array_equal(joined, np.concatenate([block.astype(np.float32) for block in blocks]))
        assert max(rows.nbytes for _, rows in seen) <= max(limit, 20)
    assert [len(rows) for _, rows in seen] == [49, 3, 3]


@pytest.fixture
def shelf(steered: Steered, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Use an empty shelf, and write down how many rows come to the device."""
    sent: list[int] = []
    streamed = device_cache.stream_blocks

    def noted(pieces: Any, device: torch.device) -> Iterator[device_cache.DeviceBlock]:
        for segment in streamed(pieces, device):
            sent.append(len(segment.rows))
            yield segment

    monkeypatch.setattr(device_cache, "stream_blocks", noted)
    monkeypatch.setattr(device_cache, "DEVICE_CACHE", device_cache.DeviceCache())
    return sent


def frozen(rows: Rows) -> Rows:
    rows = np.frombuffer(rows.tobytes(), rows.dtype).reshape(rows.shape)
    assert is_immutable(rows)
    return rows


def test_what_cannot_change_comes_to_the_device_once(shelf: list[int]) -> None:
    queries, anchors = unit(4, 24, 3), stored(300, 24, FLOAT16)
    blocks = [frozen(rows) for rows in cut(anchors, [100, 130])]
    for _ in range(3):
        assert_same(topk_similarity(queries, blocks, 9, engine="cuda"), oracle(queries, anchors, 9))
    assert sum(shelf) == 300
    assert len(device_cache.DEVICE_CACHE._entries) == 1
    del blocks[1]
    gc.collect()
    assert not device_cache.DEVICE_CACHE._entries
    rest = np.concatenate(blocks)
    assert_same(topk_similarity(queries, blocks, 9, engine="cuda"), oracle(queries, rest, 9))
    assert sum(shelf) == 300 + len(rest)


def test_what_can_change_is_read_anew(shelf: list[int]) -> None:
    queries, anchors = unit(4, 24, 3), stored(300, 24, FLOAT16)
    view = anchors[:]
    view.flags.writeable = False  # but its owner may be written to
    for rows in (anchors, view):
        before = topk_similarity(queries, [rows], 9, engine="cuda")
        anchors[:150] = anchors[150:][::-1].copy()
        after = topk_similarity(queries, [rows], 9, engine="cuda")
        assert_same(after, oracle(queries, anchors, 9))
        anchors[...] = stored(300, 24, FLOAT16)
        assert not np.array_equal(before.indices, after.indices)
    assert sum(shelf) == 1200


def test_the_shelf_makes_room_and_gives_way(shelf: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    queries = unit(2, 24, 3)
    sets = [[frozen(stored(100, 24, FLOAT16, seed))] for seed in range(3)]
    size = sets[0][0].nbytes
    free = [2 * size]
    monkeypatch.setattr(
        device_cache, "measure_room", lambda device: free[0] - size * len(device_cache.DEVICE_CACHE._entries)
    )
    for rows in (0, 1, 0, 2, 0, 1):  # two fit: the second goes for the third, which goes for the second
        found = topk_similarity(queries, sets[rows], 5, engine="cuda")
        assert_same(found, oracle(queries, sets[rows][0], 5))
    assert len(shelf) == 3 + 1
    free[0] = size // 2
    assert_same(topk_similarity(queries, sets[2], 5, engine="cuda"), oracle(queries, sets[2][0], 5))
    assert not device_cache.DEVICE_CACHE._entries


def test_what_is_there_is_found_while_others_come(steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    there, coming = ([frozen(stored(100, 24, FLOAT16, seed))] for seed in (1, 2))
    shelf, streamed, begun, go = (
        device_cache.DeviceCache(),
        device_cache.stream_blocks,
        threading.Event(),
        threading.Event(),
    )
    copies: list[int] = []

    def slow(pieces: list[device_cache.HostBlock], device: torch.device) -> Iterator[device_cache.DeviceBlock]:
        copies.append(id(pieces[0].rows))
        if pieces[0].rows is coming[0]:
            begun.set()
            assert go.wait(20)
        yield from streamed(pieces, device)

    def keep(blocks: list[Rows]) -> Rows:
        segments = shelf.keep_blocks(list(device_cache.number_blocks(blocks)), here())
        assert segments is not None
        return segments[0].rows.numpy().copy()

    monkeypatch.setattr(device_cache, "stream_blocks", slow)
    keep(there)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(keep, coming) for _ in range(2)]
        assert begun.wait(20)
        np.testing.assert_array_equal(keep(there), there[0])  # nobody waits for those on their way
        assert not any(future.done() for future in found)  # but who needs them does
        go.set()
        for future in found:
            np.testing.assert_array_equal(future.result(), coming[0])
    assert copies == [id(there[0]), id(coming[0])]  # once each


def test_a_copy_that_failed_is_made_again(shelf: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    queries, anchors = unit(2, 24, 3), [frozen(stored(100, 24, FLOAT16))]
    with monkeypatch.context() as patch:
        patch.setattr(device_cache, "stream_blocks", lambda pieces, device: iter(lambda: 1 / 0, None))
        with pytest.raises(ZeroDivisionError):
            topk_similarity(queries, anchors, 5, engine="cuda")
    for _ in range(2):
        assert_same(topk_similarity(queries, anchors, 5, engine="cuda"), oracle(queries, anchors[0], 5))
    assert sum(shelf) == 100


# Tensors


def test_tensors_of_any_layout(steered: Steered) -> None:
    queries, anchors = unit(4, 24, 3), stored(90, 24, FLOAT16)
    expected = oracle(queries, anchors, 9)
    of = tensor(anchors)
    wide = torch.cat([of, of], dim=1)
    for block in (wide[:, 24:], wide[:, :24], of.repeat_interleave(2, 0)[::2], of.T.contiguous().T):
        indices, scores = cuda.topk_of_tensors(tensor(queries), [block[:40], block[40:40], block[40:]], 9)
        assert_same(TopK(indices.cpu().numpy(), scores.cpu().numpy()), expected)
    for asked in (tensor(queries).T.contiguous().T, tensor(queries).double()):
        assert (cuda.topk_of_tensors(asked, [of], 9)[0].cpu().numpy() == expected.indices).all()
    none = cuda.topk_of_tensors(of[:0].float(), [of], 9)
    assert [tuple(each.shape) for each in none] == [(0, 9), (0, 9)]


def test_tensors_that_make_no_sense_are_refused(steered: Steered) -> None:
    queries, anchors = tensor(unit(3, 8)), tensor(stored(5, 8))
    for blocks, k, came in (
        ([anchors], 0, "k is 0"),
        ([], 1, "there are no anchors"),
        ([anchors[:, :7]], 1, "queries have 8 dimensions, anchors 7"),
        ([anchors.double()], 1, "anchors are torch.float64"),
    ):
        with pytest.raises(UsageError) as caught:
            cuda.topk_of_tensors(queries, blocks, k)
        assert caught.value.came == came


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, about what is not a number
@pytest.mark.parametrize(
    ("dtype", "bad"), [(FLOAT16, np.nan), (FLOAT16, -np.inf), (BFLOAT16, -np.inf), (FLOAT32, np.inf), (FLOAT32, np.nan)]
)
@pytest.mark.parametrize(("asked", "count", "k"), [(2, 200, 5), (4, 200, 5), (4, 9, 9)])
def test_what_is_not_finite_is_refused(
    dtype: Any, bad: float, asked: int, count: int, k: int, steered: Steered
) -> None:
    steered.rank = 10  # lists are not full: what is not finite is met when it is scored
    queries, anchors = unit(asked, 33), stored(count, 33, dtype)
    anchors[count - 1, 32] = bad
    with pytest.raises(BadEmbedding, match=f"{asked} of {asked} queries .* not finite"):
        ask(queries, [anchors], k)
    queries[1, 7] = bad
    with pytest.raises(BadEmbedding, match=f"1 of {asked} queries .* not finite"):
        ask(queries, [stored(count, 33, dtype)], k)


def test_memory_that_runs_out_is_named(steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*shape: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda, "allocate", full)
    with pytest.raises(OutOfSpace, match="the memory of the device ran out"):
        ask(unit(3, 8), [stored(50, 8)], 2)


def test_without_triton_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asif.kernels.triton_", None)
    monkeypatch.delattr("asif.kernels.triton_", raising=False)
    with pytest.raises(MissingDependency, match="pip install triton"):
        cuda.load_triton.__wrapped__()


# The proved bound


def chopped(values: Rows) -> Rows:
    """Cut float64 numbers to 24 bits, towards zero, as matrix units may."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.trunc(mantissa * 2.0**24), exponent - 24)


def products(left: Rows, right: Rows) -> Iterator[Rows]:
    """Add up products in float32 and in several orders, and as matrix units do: cut, not rounded."""
    terms = left.astype(np.float32)[:, None, :] * right.astype(np.float32)[None, :, :]
    yield terms.sum(axis=2)
    for ordered in (terms, np.sort(terms, axis=2)):
        yield np.cumsum(ordered, axis=2, dtype=np.float32)[..., -1]
        total = np.zeros(ordered.shape[:2])
        for at in range(ordered.shape[2]):
            total = chopped(total + ordered[..., at].astype(np.float64))
        yield total


@pytest.mark.parametrize("dtype", [None, *DTYPES], ids=str)
@pytest.mark.parametrize("dim", [1, 33, 384])
def test_the_bound_holds(dim: int, dtype: Any) -> None:
    """dtype None: float32 anchors for a few queries, multiplied as they are."""
    half = {FLOAT16: FLOAT16, BFLOAT16: BFLOAT16, FLOAT32: FLOAT16}.get(dtype)
    pairs = [(hard(kind, 5, dim, FLOAT32, 1), hard(kind, 40, dim, dtype or FLOAT32, 2)) for kind in HARD]
    pairs += [(unit(5, dim, 3), stored(40, dim, dtype or FLOAT32))]
    pairs += [(np.abs(unit(5, dim, 4)), np.abs(stored(40, dim, dtype or FLOAT32)))]
    for raw, anchors in pairs:
        queries = round_to_grid(raw).astype(np.float32)
        asked = queries if half is None else queries.astype(half).astype(np.float32)
        met = anchors if half is None else anchors.astype(half)
        scores = (queries.astype(np.float64) @ round_to_grid(anchors).T).astype(np.float32)
        limits = cuda.bound_errors(torch.from_numpy(queries), torch.from_numpy(asked), dtype == FLOAT32).numpy()
        for product in products(asked, met):
            assert (np.abs(product - scores) <= limits[:, None]).all()
        assert limits.max() < {None: 2e-4, FLOAT16: 1e-3, BFLOAT16: 6e-3, FLOAT32: 2e-3}[dtype]  # not vacuous


@pytest.mark.parametrize(("dtype", "share"), [(BFLOAT16, 0.6), (FLOAT16, 0.4), (FLOAT32, 0.3)], ids=str)
def test_the_bound_is_needed(dtype: Any, share: float) -> None:
    """Rows whose every entry loses as much as rounding can take: a bound a few times smaller would be wrong."""
    half = BFLOAT16 if dtype == BFLOAT16 else FLOAT16
    low = np.array([64**-0.5]).astype(half)
    step = float(low.view(np.uint16).__add__(np.uint16(1)).view(half)[0]) - float(low[0])
    queries = np.full((1, 64), float(low[0]) + 0.499 * step, np.float32)
    anchors = queries if dtype == FLOAT32 else low.astype(dtype) * np.ones((1, 64), dtype)
    asked = queries.astype(half).astype(np.float32)
    lost = queries.astype(np.float64) @ anchors.astype(np.float64).T - asked @ anchors.astype(half).astype(np.float32).T
    bound = cuda.bound_errors(torch.from_numpy(queries), torch.from_numpy(asked), dtype == FLOAT32)
    assert share < lost[0, 0] / float(bound[0]) <= 1


def test_plans_leave_room() -> None:
    """Floors let pass k and more, and no more than there is room for, in all but a few of many samples."""
    random = np.random.default_rng(7)
    for count, k in ((20_000, 10), (100_000, 100), (100_000, 800), (1_600_000, 800)):
        plan = cuda.SearchPlan(count, k)
        assert not plan.direct
        shown = np.sort(random.random((200, plan.size)), axis=1)[:, plan.rank - 1]  # what share of all anchors passes
        passing = shown * count
        assert passing.min() > k
        assert passing.max() < plan.capacity
        assert plan.size < count / 2


def test_samples_have_no_period() -> None:
    some = cuda.choose_sample_rows(70_000, 1_000, here()).cpu().numpy()
    assert ((some >= np.arange(1_000) * 70) & (some < np.arange(1, 1_001) * 70)).all()
    assert np.bincount(some % 70, minlength=70).max() < 40  # a regular sample would meet one of 70 a thousand times


def test_scales_are_those_of_the_definition() -> None:
    random = np.random.default_rng(8)
    values = random.standard_normal((500, 9)) * 10.0 ** random.uniform(-40, 35, (500, 1))
    values[::50], values[1::50, 1:] = 0, 0
    values = np.concatenate([values, np.full((3, 9), 1.999), np.full((3, 9), 1.4 / 3)]).astype(np.float32)
    found = cuda_sparse.compute_scales(tensor(values).double())
    np.testing.assert_array_equal(found.cpu().numpy(), canonical.compute_scales(values))


# Without a device: what a compiler makes of the kernels


COMPILE = SUPPORT / "kernels_compile.py"


@pytest.mark.slow
def test_kernels_compile_for_devices(tmp_path: Path) -> None:
    pytest.importorskip("triton.backends.nvidia")
    known = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, COMPILE], capture_output=True, text=True, env={**known, "TRITON_CACHE_DIR": str(tmp_path)}
    )
    assert ran.returncode == 0, ran.stderr
    made = json.loads(ran.stdout)
    assert len(made) == 10
    assert not [name for name, kinds in made.items() if "local" in kinds]
    for name, matrix in (("80 propose 128 fp16", "mma.sync"), ("90 propose 128 fp16", "wgmma")):
        assert matrix in made[name].split()
    assert "wgmma" in made["90 propose 128 bf16"].split() and "wgmma" in made["90 propose 128 fp32"].split()
