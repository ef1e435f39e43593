"""timm's transform for evaluation, computed by Pillow and numpy from timm's data config: the same float32 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.vectors import Float32

if TYPE_CHECKING:
    from PIL import Image

_CONFIG_KEYS = {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"}
_CROP_MODES = ("center", "squash", "border")
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_BLACK = (0, 0, 0)


@dataclass(frozen=True)
class EvalTransform:
    """Resize an image, cut or pad it around its centre, and normalise it by channel.

    `size` is what comes out, `scaled_size` what the image is resized to before the cut; both are (height, width).
    `crop_mode` is timm's: `center` resizes the sides in proportion until both reach `scaled_size`, `border` until
    none exceeds it, `squash` resizes each side to it.
    """

    size: tuple[int, int]
    scaled_size: tuple[int, int]
    crop_mode: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EvalTransform | None:
        """Read timm's resolved data config, or its copy in a fingerprint; None if it holds anything else than known."""
        if set(config) != _CONFIG_KEYS or not _is_covered(config):
            return None
        height, width = (int(side) for side in config["input_size"][1:])
        scaled = math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"])
        mean, std = (tuple(float(value) for value in config[key]) for key in ("mean", "std"))
        return cls((height, width), scaled, config["crop_mode"], config["interpolation"], mean, std)  # type: ignore[arg-type]

    def apply(self, image: Image.Image, out: Float32 | None = None) -> Float32:
        """Transform an RGB image to values [3, h, w], written to `out` if it is given."""
        values = np.empty((3, *self.size), np.float32) if out is None else out
        resized = _resize(image, self._find_resized_size(image.height, image.width), self.interpolation)
        placed = _place(resized, self.size, self._find_origin(resized.height, resized.width), self._fill)
        for channel, plane in enumerate(placed.split()):
            into = values[channel]
            np.divide(np.asarray(plane), np.float32(255), out=into, dtype=np.float32)
            np.subtract(into, np.float32(self.mean[channel]), out=into)
            np.divide(into, np.float32(self.std[channel]), out=into)
        return values

    @property
    def _fill(self) -> tuple[int, int, int]:
        """Return the colour around an image that is smaller than the cut."""
        if self.crop_mode != "border":
            return _BLACK
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def _find_resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing; the sides are rounded as timm and torchvision round them."""
        if self.crop_mode == "squash":
            return self.scaled_size
        goal_height, goal_width = self.scaled_size
        if self.crop_mode == "center" and goal_height == goal_width:
            short = min(height, width)
            return int(goal_height * height / short), int(goal_height * width / short)
        choose = max if self.crop_mode == "border" else min
        ratio = choose(height / goal_height, width / goal_width)
        return round(height / ratio), round(width / ratio)

    def _find_origin(self, height: int, width: int) -> tuple[int, int]:
        """Return row and column of the resized image at which the cut begins; negative where it is padded."""
        row, column = (
            -((cut - side) // 2) if cut > side else round((side - cut) / 2)
            for cut, side in zip(self.size, (height, width), strict=True)
        )
        return row, column


def _is_covered(config: Mapping[str, Any]) -> bool:
    """Tell whether a data config of the known keys describes a transform of RGB images that this module computes."""
    return (
        config["crop_mode"] in _CROP_MODES
        and isinstance(config["interpolation"], str)
        and config["interpolation"] in _INTERPOLATIONS
        and _are_positive(config["input_size"], 3)
        and config["input_size"][0] == 3
        and _are_positive(config["std"], 3)
        and len(config["mean"]) == 3
        and _are_positive((config["crop_pct"],), 1)
    )


def _are_positive(values: Any, count: int) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(isinstance(value, int | float) and value > 0 for value in values)
    )


def _resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Resize an image to (height, width); an image of that size is returned as it is."""
    from PIL import Image

    height, width = size
    if (image.height, image.width) == size:
        return image
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def _place(
    image: Image.Image, size: tuple[int, int], origin: tuple[int, int], fill: tuple[int, int, int]
) -> Image.Image:
    """Return the cut of an RGB image of `size` (height, width) that begins at `origin` (row, column).

    What lies outside the image has the colour `fill`.
    """
    from PIL import Image

    (height, width), (row, column) = size, origin
    placed = Image.new("RGB", (width, height), fill)
    placed.paste(image, (-column, -row))
    return placed
