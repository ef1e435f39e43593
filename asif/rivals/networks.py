"""The networks of trained projectors, in torch: imported when a projector is trained or used."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class _ScaleToUnitEntries(nn.Module):
    """Scale unit rows [n, d] to entries of unit variance, for which networks are initialised."""

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply by the square root of d."""
        return rows * math.sqrt(rows.shape[-1])


def build_perceptron(dim: int, hidden: int, layers: int, out: int, dropout: float | None) -> nn.Module:
    """Build a stack of linear layers with GELU and dropout between them.

    Unit rows are not scaled: the first steps are then nearly linear, which with few pairs brings two points of recall
    compared with entries of unit variance.
    """
    widths = [dim, *[hidden] * (layers - 1)]
    inner: list[nn.Module] = []
    for width, following in pairwise(widths):
        inner += [nn.Linear(width, following), nn.GELU(), nn.Dropout(dropout or 0.0)]
    return nn.Sequential(*inner, nn.Linear(widths[-1], out))


class _ResidualBlock(nn.Module):
    """x + MLP(LayerNorm(x)), the MLP as wide as `expansion` inputs, dropout after its activation."""

    def __init__(self, dim: int, expansion: float, dropout: float | None) -> None:
        super().__init__()
        inner = max(1, round(expansion * dim))
        self.inner = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Dropout(dropout or 0.0), nn.Linear(inner, dim)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Add the output of the MLP to rows [n, d]."""
        out: Tensor = rows + self.inner(rows)
        return out


def build_adapter(dim: int, blocks: int, expansion: float, dropout: float | None, width: int) -> nn.Module:
    """Build FuseMix's adapter: residual blocks, a LayerNorm, and a linear map to the common width."""
    residual_blocks = [_ResidualBlock(dim, expansion, dropout) for _ in range(blocks)]
    return nn.Sequential(_ScaleToUnitEntries(), *residual_blocks, nn.LayerNorm(dim), nn.Linear(dim, width))


class Projection(nn.Module):
    """freeze-align's token projector: LayerNorm, dropout, then a linear map plus a small MLP."""

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.LayerNorm(dim), nn.Dropout(dropout or 0.0))
        self.straight = nn.Linear(dim, width)
        self.bent = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows [..., d] to [..., width]."""
        prepared = self.before(rows)
        out: Tensor = self.straight(prepared) + self.bent(prepared)
        return out

    def mean(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Project tokens [n, t, d] and average those in the mask [n, t]: [n, width].

        Linear maps are applied after the mean: the same result, for a third of the work.
        """
        shares = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1))[:, None]
        prepared = self.before(tokens)
        bent = self.bent[:2](prepared)
        out: Tensor = self.straight(shares @ prepared) + self.bent[2](shares @ bent)
        return out[:, 0]


class TextProjection(nn.Module):
    """freeze-align's text network: a projection, then the head.

    The head is a linear map, GELU, a linear map and dropout, added to the output of the first one, then a LayerNorm.
    """

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.projection = Projection(dim, width, dropout)
        self.first = nn.Linear(width, width)
        self.second = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.Dropout(dropout or 0.0))
        self.after = nn.LayerNorm(width)

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows [n, d] to [n, width]."""
        return self.finish(self.projection(rows))

    def finish(self, projected: Tensor) -> Tensor:
        """Pass projected texts [n, width] through the head."""
        mapped = self.first(projected)
        out: Tensor = self.after(mapped + self.second(mapped))
        return out


class InputResidualProjection(TextProjection):
    """The text network of earlier versions: its head adds an MLP to the head's input, dropout between the layers."""

    def __init__(self, dim: int, width: int, dropout: float | None) -> None:
        nn.Module.__init__(self)
        self.projection = Projection(dim, width, dropout)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout or 0.0), nn.Linear(width, width)
        )
        self.after = nn.LayerNorm(width)

    def finish(self, projected: Tensor) -> Tensor:
        """Pass projected texts [n, width] through the head."""
        out: Tensor = self.after(projected + self.head(projected))
        return out


def build_text_projection(dim: int, width: int, dropout: float | None, head: int) -> TextProjection:
    """Build freeze-align's text network: `head` 1 is the published one, 0 that of earlier versions."""
    return (TextProjection if head else InputResidualProjection)(dim, width, dropout)


class PatchNetwork(nn.Module):
    """freeze-align's image network: the mean of projected patches plus the projected CLS token or pooled vector."""

    def __init__(self, dim: int, pooled: int, width: int, dropout: float | None) -> None:
        super().__init__()
        self.local = Projection(dim, width, dropout)
        self.whole = Projection(pooled, width, dropout)

    def forward(self, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Project tokens [n, t, d] with their mask [n, t], and vectors [n, e], to [n, width]."""
        out: Tensor = self.local.mean(tokens, mask) + self.whole(pooled)
        return out


class WordNetwork(nn.Module):
    """freeze-align's text network on tokens: the mean of projected tokens, passed through the head."""

    def __init__(self, dim: int, width: int, dropout: float | None, head: int) -> None:
        super().__init__()
        self.headed = build_text_projection(dim, width, dropout, head)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Project tokens [n, t, d] with their mask [n, t] to [n, width]."""
        return self.headed.finish(self.headed.projection.mean(tokens, mask))
