"""Products in float64: the code that runs on a CUDA device, there, and on the CPU; what closed-form maps make of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from support.anchor_pairs import every_aligner, queries, related
from support.kernels_cases import CUDA
from support.late import Late

from asif.aligners import Linear, Moments
from asif.aligners.linear import cca
from asif.errors import UsageError
from asif.kernels import blas
from asif.kernels.canonical import round_to_grid
from asif.vectors import SIDES

if TYPE_CHECKING:
    import torch
else:
    torch = Late("torch")

DEVICES = ["cpu", "cuda"] if CUDA else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the engine cuda multiply by torch on a device, however few the rows."""
    monkeypatch.setattr(blas, "find_device", lambda engine: request.param if engine == "cuda" else None)
    monkeypatch.setattr(blas, "MIN_DEVICE_ROWS", 1)
    return str(request.param)


def unit_on_grid(count: int, dim: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return round_to_grid(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize(("count", "dim", "size"), [(1, 1, 1), (7, 13, 67), (300, 1280, 384)])
def test_products_on_the_grid_are_the_same_bits(device: str, count: int, dim: int, size: int) -> None:
    rows, columns = unit_on_grid(count, dim, 0), unit_on_grid(size, dim, 1).T
    found = blas.multiply(rows, columns, engine="cuda")
    assert found.tobytes() == blas.multiply(rows, columns, engine="cpu").tobytes()
    whole = (rows * 2**26).astype(np.int64) @ (columns * 2**26).astype(np.int64)  # sums below 2**53
    assert (found * 2.0**52 == whole.astype(np.float64)).all()


def test_a_zero_has_no_sign(device: str) -> None:
    rows, columns = np.array([[0.0, -0.0], [0.5, 0.0]]), np.array([[-0.5, 0.0], [0.5, -0.5]])
    for engine in ("cuda", "cpu"):
        found = blas.multiply(rows, columns, engine=engine)  # type: ignore[arg-type]
        assert not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16], ids=str)
def test_sums_of_stored_rows_are_those_of_float64(device: str, dtype: Any) -> None:
    x, y = (unit_on_grid(500, dim, dim).astype(dtype) for dim in (12, 5))
    wide = [rows.astype(np.float64) for rows in (x, y)]
    expected = (wide[0].sum(axis=0), wide[1].sum(axis=0), wide[0].T @ wide[0], wide[1].T @ wide[1], wide[0].T @ wide[1])
    for engine in ("cuda", "cpu"):
        for got, due in zip(blas.compute_second_moments(x, y, engine=engine), expected, strict=True):  # type: ignore[arg-type]
            np.testing.assert_allclose(got, due, rtol=0, atol=1e-12)


def test_sums_of_read_only_rows(device: str) -> None:
    pairs = related(40)
    for side in SIDES:
        pairs.sides[side].setflags(write=False)  # as a mapped block is
    one, two = (Moments.of(pairs, engine) for engine in ("cuda", "cpu"))
    assert one.count == two.count == 40
    for got, due in zip(one.covariances(), two.covariances(), strict=True):
        np.testing.assert_allclose(got, due, rtol=0, atol=1e-13)


@every_aligner
def test_rows_are_mapped_to_the_same_bits(device: str, aligner: Linear) -> None:
    fitted = aligner.fit(related(60))
    for side in SIDES:
        some = queries(side, 40)
        one, two = (fitted.represent(side, some, engine) for engine in ("cuda", "cpu"))
        assert one.values.tobytes() == two.values.tobytes()


def test_few_rows_do_not_move_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = related(60)
    fitted = cca().restore(pairs, cca().fit(pairs).arrays())
    monkeypatch.setattr(blas, "find_device", lambda engine: pytest.fail("moved"))
    assert fitted.represent("image", queries("image", blas.MIN_DEVICE_ROWS - 1), "cuda").values.any()


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        blas.compute_second_moments(np.eye(2), np.eye(2), engine="cuda")


def test_small_matrices_are_decomposed_in_one_thread_and_the_number_comes_back() -> None:
    (library,) = blas._find_libraries() or pytest.skip("scipy shares its BLAS with numpy here")
    before = library.get_num_threads()
    with blas.limit_decomposition_threads(2048):
        assert library.get_num_threads() == 1
        with blas.limit_decomposition_threads(8):
            assert library.get_num_threads() == 1
        assert library.get_num_threads() == 1
    with blas.limit_decomposition_threads(2049):
        assert library.get_num_threads() == before
    assert library.get_num_threads() == before


def test_the_number_of_threads_comes_back_after_decompositions_in_many_threads() -> None:
    (library,) = blas._find_libraries() or pytest.skip("scipy shares its BLAS with numpy here")
    before = library.get_num_threads()

    def decompose(seed: int) -> None:
        for _ in range(20):
            with blas.limit_decomposition_threads(8):
                np.linalg.eigvalsh(np.eye(8) * seed)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decompose, range(8)))
    assert library.get_num_threads() == before
