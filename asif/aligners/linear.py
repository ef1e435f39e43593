"""Closed-form linear maps into a common space: Procrustes, ridge regression and canonical correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners.moments import Moments, find_moments
from asif.aligners.protocol import Anchors, TemplateMode
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.kernels.blas import limit_decomposition_threads, multiply
from asif.kernels.canonical import round_to_grid
from asif.vectors import SIDES, AnchorContributions, DenseRows, Embeddings, FitArrays, Float32, Float64, Side

_MOST_COPIED = 1 << 25  # entries of anchors that explanations copy
_BATCH_ROWS = 4096  # mapped at a time
MAX_EXPONENT = 5.0  # a higher power of correlations leaves only one direction
MIN_VARIANCE = 1e-9  # of unit rows: below it there is only rounding
MIN_RELATIVE_CORRELATION = 1e-5  # to the largest: directions below it are noise


@dataclass(frozen=True)
class Linear:
    """Map both sides linearly into one space, whose axes are the singular directions of the cross-covariance.

    With covariances S about the means, A = (S_xx + λ·trace(S_xx)/d)^-½ if the image side is whitened, else 1, and B
    likewise for the text side, U R Vᵀ = svd(A S_xy B). An image x is represented by R^a Uᵀ A (x - mean), a text y by
    R^b Vᵀ B (y - mean), both of unit length, so scores are cosines in [-1, 1].

    - `procrustes`: nothing whitened, a = b = 0: the rotation that minimises distances in pairs (Schönemann 1966)
    - `ridge`: one side whitened, its exponent 1: least squares from that side to the other (Hoerl and Kennard 1970)
    - `cca`: both whitened, a = b = ½: axes are weighted by their canonical correlations (Hotelling 1936; Li et al.,
      ICLR 2025, with λ on both sides)

    `whiten` and `exponents` are (image, text); `size` is the number of directions kept. Raises UsageError for a λ
    that is not above zero if a side is whitened, for exponents outside 0 to 5, and for a size below 1.
    """

    name: str
    whiten: tuple[bool, bool]
    exponents: tuple[float, float]
    strength: float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if any(self.whiten) and not (self.strength is not None and 0 < self.strength < np.inf):
            raise UsageError(f"lambda is {self.strength}", "a number above zero", "pass a lambda such as 1")
        if not all(0 <= exponent <= MAX_EXPONENT for exponent in self.exponents):
            raise UsageError(
                f"weight is {2 * self.exponents[0]}",
                f"a number from 0 to {2 * MAX_EXPONENT:g}",
                "pass a weight such as 1",
            )
        if self.size is not None and self.size < 1:
            raise UsageError(f"size is {self.size}", "a whole number from 1", "pass a size such as 256")

    @property
    def parameters(self) -> dict[str, Any]:
        parameters = {"lambda": self.strength, "size": self.size, "exponents": list(self.exponents)}
        return {key: value for key, value in parameters.items() if value is not None}

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts."""
        return "mean"

    def fit(self, anchors: Anchors) -> FittedLinear:
        """Bind to an anchor set; the moments are summed and the maps solved when first needed."""
        return FittedLinear(self, anchors)

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedLinear:
        """Bind to an anchor set with the maps of an earlier fit."""
        return FittedLinear(self, anchors, LinearMaps.from_arrays(arrays))


def procrustes(size: int | None = None) -> Linear:
    """Rotate one side onto the other: the most robust map for few pairs.

    >>> procrustes().parameters
    {'exponents': [0.0, 0.0]}
    """
    return Linear("procrustes", (False, False), (0.0, 0.0), None, size)


def ridge(strength: float = 0.1, towards: Side = "image", size: int | None = None) -> Linear:
    """Predict one side from the other by least squares with a penalty.

    >>> ridge(towards="text").parameters
    {'lambda': 0.1, 'exponents': [1.0, 0.0]}
    """
    if towards not in ("image", "text"):
        raise UsageError(f"ridge leads towards {towards!r}", "image or text", "pass --towards image")
    if towards == "text":
        return Linear("ridge", (True, False), (1.0, 0.0), strength, size)
    return Linear("ridge", (False, True), (0.0, 1.0), strength, size)


def cca(strength: float = 1.0, size: int | None = None, weight: float = 1.0) -> Linear:
    """Find the directions in which both sides correlate, weighted by their correlations to the power `weight`.

    >>> cca(size=64).parameters
    {'lambda': 1.0, 'size': 64, 'exponents': [0.5, 0.5]}
    """
    return Linear("cca", (True, True), (weight / 2, weight / 2), strength, size)


@dataclass(frozen=True)
class LinearMaps:
    """Hold a solution: means [d], maps [d, s] on the grid, and the powers of two by which columns were divided [s].

    `correlations` [s] are those of the axes; `shared` [s, s] is Σ z_x z_yᵀ / N, the anchors' mean product of
    representations before normalisation. Columns of the maps have a length of at most ½, so that products with
    embeddings on the grid are exact in float64: the representation of a row does not depend on its batch.
    """

    means: dict[Side, Float64]
    maps: dict[Side, Float64]
    scales: dict[Side, Float64]
    correlations: Float64
    shared: Float64

    def as_arrays(self) -> FitArrays:
        """Return the solution as named arrays, for a file."""
        sides = {"mean": self.means, "map": self.maps, "scale": self.scales}
        arrays = {f"{what}_{side}": values[side] for what, values in sides.items() for side in SIDES}
        return {**arrays, "correlations": self.correlations, "shared": self.shared}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> LinearMaps:
        """Read what `as_arrays` wrote, into memory of its own; raises KeyError if something is missing."""
        arrays = {name: np.array(values, order="C") for name, values in arrays.items()}
        means, maps, scales = ({side: arrays[f"{what}_{side}"] for side in SIDES} for what in ("mean", "map", "scale"))
        return cls(means, maps, scales, arrays["correlations"], arrays["shared"])

    def apply(self, side: Side, centred: Float64, engine: KernelName = "auto") -> Float64:
        """Map centred rows [n, d] into the common space [n, s], without normalisation."""
        return multiply(round_to_grid(centred), self.maps[side], engine=engine) * self.scales[side]


def solve_maps(aligner: Linear, moments: Moments) -> LinearMaps:
    """Solve for the maps: at most two symmetric eigenproblems, and one singular value decomposition."""
    xx, yy, xy = moments.covariances()
    means: dict[Side, Float64] = {"image": moments.image / moments.count, "text": moments.text / moments.count}
    if min(np.trace(xx), np.trace(yy)) < MIN_VARIANCE:
        return make_empty_maps(means)
    strength, found = moments.axes.get(aligner.whiten, (None, None))
    if found is None or strength != aligner.strength:
        found = _solve_axes(aligner, moments, xy)
        moments.axes[aligner.whiten] = (aligner.strength, found)
    image, correlations, text = found
    clear = int((correlations > MIN_RELATIVE_CORRELATION * correlations[0]).sum())
    size = max(1, min(clear, aligner.size or clear))
    used = np.maximum(correlations[:size], np.finfo(np.float64).tiny)
    image = image[:, :size] * used ** aligner.exponents[0]
    text = text[:, :size] * used ** aligner.exponents[1]
    return round_maps(means, image, text, used, xy)


def round_maps(
    means: dict[Side, Float64], image: Float64, text: Float64, correlations: Float64, xy: Float64
) -> LinearMaps:
    """Put maps [d, s] on the grid; `xy` [di, dt] is the covariance of the anchors."""
    scales: dict[Side, Float64] = {"image": compute_column_scales(image), "text": compute_column_scales(text)}
    maps = {"image": round_to_grid(image / scales["image"]), "text": round_to_grid(text / scales["text"])}
    shared = (maps["image"] * scales["image"]).T @ xy @ (maps["text"] * scales["text"])
    solved = LinearMaps(means, {"image": maps["image"], "text": maps["text"]}, scales, correlations, shared)
    return LinearMaps.from_arrays(solved.as_arrays())  # as a cached fit: the order in memory changes the last digit


def make_empty_maps(means: dict[Side, Float64]) -> LinearMaps:
    """Return maps to zero, for anchors without covariance: one pair, or equal pairs."""
    empty: dict[Side, Float64] = {
        "image": np.zeros((len(means["image"]), 1)),
        "text": np.zeros((len(means["text"]), 1)),
    }
    return LinearMaps(means, empty, {"image": np.ones(1), "text": np.ones(1)}, np.ones(1), np.zeros((1, 1)))


def _solve_axes(aligner: Linear, moments: Moments, xy: Float64) -> tuple[Float64, Float64, Float64]:
    """Return all axes before weighting: A U [di, s], the correlations [s], descending, and B V [dt, s].

    With S_xx = E D Eᵀ and S_yy = F G Fᵀ, A S_xy B = E (D + λd)^-½ (Eᵀ S_xy F) (G + λg)^-½ Fᵀ, of which the middle is
    the same for all λ. Its singular value decomposition takes the scaled middle alone.
    """
    from scipy import linalg

    middle, bases, scales = moments.rotate_cross(aligner.whiten, xy), {}, {}
    for side, is_whitened in zip(SIDES, aligner.whiten, strict=True):
        if is_whitened and aligner.strength:
            values, bases[side] = moments.spectra[side]
            scales[side] = _compute_inverse_roots(values, aligner.strength)
    middle = middle * scales["image"][:, None] if "image" in scales else middle
    middle = middle * scales["text"] if "text" in scales else middle
    with limit_decomposition_threads(max(middle.shape)):
        u, correlations, vt = linalg.svd(middle, full_matrices=False)
    image = bases["image"] @ (scales["image"][:, None] * u) if "image" in scales else u
    text = bases["text"] @ (scales["text"][:, None] * vt.T) if "text" in scales else vt.T
    return image, correlations, text


def _compute_inverse_roots(values: Float64, strength: float) -> Float64:
    """Return (D + λ·trace(D)/d)^-½ from the eigenvalues [d] of a covariance.

    >>> _compute_inverse_roots(np.array([1.0, 3.0]), 0.5).round(6).tolist()
    [0.707107, 0.5]
    """
    values = np.maximum(values, 0.0)
    return np.asarray(1 / np.sqrt(values + strength * max(values.mean(), np.finfo(np.float64).tiny)))


def compute_column_scales(columns: Float64) -> Float64:
    """Return the powers of two [s] by which columns must be divided to have a length between ¼ and ½.

    >>> compute_column_scales(np.array([[3.0, 0.0], [4.0, 0.0]])).tolist()
    [16.0, 1.0]
    """
    lengths = np.linalg.norm(columns, axis=0)
    return np.where(lengths > 0, np.ldexp(1.0, np.frexp(lengths)[1] + 1), 1.0)


def scale_to_unit(rows: Float64) -> Float64:
    """Scale rows [n, d] to unit length, in place; rows of zeros stay.

    >>> scale_to_unit(np.array([[3e-200, 4e-200], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    largest = np.abs(rows).max(axis=1, keepdims=True)
    np.divide(rows, largest, out=rows, where=largest > 0)  # first, so that the length of a tiny row does not underflow
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows


@dataclass(frozen=True)
class FittedLinear:
    """A linear map fitted to one anchor set; `restored` is the solution of an earlier fit."""

    aligner: Linear
    anchors: Anchors
    restored: LinearMaps | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return self.aligner.parameters

    @cached_property
    def solution(self) -> LinearMaps:
        return self.restored or solve_maps(self.aligner, find_moments(self.anchors))

    def arrays(self) -> FitArrays:
        """Return the solution as named arrays."""
        return self.solution.as_arrays()

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Map embeddings [n, d] into the common space [n, s], to unit length; rows equal to the mean become zero."""
        mean = self.solution.means[side]
        dim = len(mean)
        if embeddings.dim != dim:
            raise UsageError(
                f"{side} embeddings have {embeddings.dim} dimensions, anchors {dim}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )
        out = np.zeros((len(embeddings), len(self.solution.correlations)), np.float32)
        for start in range(0, len(embeddings), _BATCH_ROWS):
            some = slice(start, start + _BATCH_ROWS)
            mapped = self.solution.apply(side, embeddings.values[some].astype(np.float64) - mean, engine)
            out[some] = scale_to_unit(mapped)
        return DenseRows(out)

    def split_score(self, image: DenseRows, text: DenseRows) -> AnchorContributions:
        """Split a score into anchor contributions: the products of their image and text terms.

        With u, v the representations, z_x and z_y those of the pair before normalisation, and C = Σ z_x z_yᵀ / N, which
        is R^(1+a+b) up to the rounding of the maps, pair i adds (z_x·C^-ᵀ R^2b u)(z_y·R^-2b v) / N. These add up to
        u·v.
        """
        from scipy import linalg

        shared = self.solution.shared
        if not shared.any():  # no covariance: see `solve_maps`
            return AnchorContributions(np.arange(self.anchors.count), np.zeros(self.anchors.count))
        weights = self.solution.correlations ** (2 * self.aligner.exponents[1])
        facing_image = linalg.lu_solve(self._factored_shared, image.values[0] * weights)
        products = self._project_anchors("image", facing_image) * self._project_anchors(
            "text", text.values[0] / weights
        )
        return AnchorContributions(np.arange(self.anchors.count), products / self.anchors.count)

    def _project_anchors(self, side: Side, vector: Float64) -> Float64:
        """Return the inner products of all anchors' representations, before normalisation, with a vector [s]: [N].

        Each is summed by itself, so that it does not depend on how anchors lie in blocks.
        """
        direction = self.solution.maps[side] @ (self.solution.scales[side] * vector)
        offset = self.solution.means[side] @ direction
        products = [np.einsum("nd,d->n", block.astype(np.float64), direction) for block in self._get_blocks(side)]
        return np.concatenate(products) - offset

    @cached_property
    def _factored_shared(self) -> tuple[Float64, Any]:
        from scipy import linalg

        factored: tuple[Float64, Any] = linalg.lu_factor(self.solution.shared.T)
        return factored

    def _get_blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        """Return the anchors of one side; of small sets a float32 copy, which is widened faster."""
        if self.anchors.count * len(self.solution.means[side]) > _MOST_COPIED:
            return self.anchors.blocks(side)
        if side not in self._copied_blocks:
            self._copied_blocks[side] = [np.asarray(block, np.float32) for block in self.anchors.blocks(side)]
        return self._copied_blocks[side]

    @cached_property
    def _copied_blocks(self) -> dict[Side, list[Float32]]:
        return {}
