"""The networks of trained projectors, in torch: imported when one is trained or asked."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class Whole(nn.Module):
    """Bring unit rows [n, d] to entries of unit size, as networks are initialised for."""

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply by the root of d."""
        return rows * math.sqrt(rows.shape[-1])


def perceptron(dim: int, hidden: int, layers: int, out: int, dropout: float | None) -> nn.Module:
    """Stack linear layers with GELU and dropout between them.

    Unit rows come in as they are: the first steps are then nearly linear, which with few pairs is worth two points of
    recall beside entries of unit size.
    """
    widths = [dim, *[hidden] * (layers - 1)]
    inner: list[nn.Module] = []
    for width, following in pairwise(widths):
        inner += [nn.Linear(width, following), nn.GELU(), nn.Dropout(dropout or 0.0)]
    return nn.Sequential(*inner, nn.Linear(widths[-1], out))


class Residual(nn.Module):
    """x + MLP(LayerNorm(x)), the MLP as wide as `expansion` inputs, dropout after its activation."""

    def __init__(self, dim: int, expansion: float, dropout: float | None) -> None:
        super().__init__()
        inner = max(1, round(expansion * dim))
        self.inner = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Dropout(dropout or 0.0), nn.Linear(inner, dim)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Add what the block makes of rows [n, d] to them."""
        found: Tensor = rows + self.inner(rows)
        return found


def adapter(dim: int, blocks: int, expansion: float, dropout: float | None, width: int) -> nn.Module:
    """Make FuseMix's adapter: residual blocks, a LayerNorm, and a linear map to the common width."""
    deep = [Residual(dim, expansion, dropout) for _ in range(blocks)]
    return nn.Sequential(Whole(), *deep, nn.LayerNorm(dim), nn.Linear(dim, width))


class Projection(nn.Module):
    """Make freeze-align's token projector: LayerNorm, dropout, then a linear map plus a small MLP."""

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.LayerNorm(dim), nn.Dropout(dropout or 0.0))
        self.straight = nn.Linear(dim, width)
        self.bent = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows [..., d] to [..., width]."""
        prepared = self.before(rows)
        found: Tensor = self.straight(prepared) + self.bent(prepared)
        return found

    def mean(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Project tokens [n, t, d] and average those that the mask [n, t] has [n, width].

        What is linear comes after the mean: the same, for a third of the work.
        """
        shares = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1))[:, None]
        prepared = self.before(tokens)
        bent = self.bent[:2](prepared)
        found: Tensor = self.straight(shares @ prepared) + self.bent[2](shares @ bent)
        return found[:, 0]


class Headed(nn.Module):
    """Project texts, then pass them through freeze-align's head: an MLP with a residual, and a LayerNorm."""

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.projection = Projection(dim, width, dropout)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout or 0.0), nn.Linear(width, width)
        )
        self.after = nn.LayerNorm(width)

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows [n, d] to [n, width]."""
        return self.finish(self.projection(rows))

    def finish(self, projected: Tensor) -> Tensor:
        """Pass projected texts [n, width] through the head."""
        found: Tensor = self.after(projected + self.head(projected))
        return found


class Patches(nn.Module):
    """Add the mean of freeze-align's projected patches to its projected CLS token, or whatever the one vector is."""

    def __init__(self, dim: int, pooled: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.local = Projection(dim, width, dropout)
        self.whole = Projection(pooled, width, dropout)

    def forward(self, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Project tokens [n, t, d] with their mask [n, t], and vectors [n, e], to [n, width]."""
        found: Tensor = self.local.mean(tokens, mask) + self.whole(pooled)
        return found


class Words(nn.Module):
    """Project the tokens of texts, and pass their mean through freeze-align's head."""

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.headed = Headed(dim, width, dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Project tokens [n, t, d] with their mask [n, t] to [n, width]."""
        return self.headed.finish(self.headed.projection.mean(tokens, mask))
