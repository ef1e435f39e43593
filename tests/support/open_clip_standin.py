"""A model that stands in for those of open_clip."""

from __future__ import annotations

import torch


class StandIn(torch.nn.Module):
    """Two linear towers, by the names that open_clip has."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 8))
        self.words = torch.nn.EmbeddingBag(256, 8)
        self.visual.preprocess_cfg = {"size": (32, 32), "mean": (0.5,) * 3, "interpolation": "nearest"}

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words(tokens)
