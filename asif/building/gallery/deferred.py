"""An encoder that is loaded when the first content must be encoded: most updates change few files, many none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asif.encoders import ImageEncoder, TextEncoder
from asif.vectors import Fingerprint, Float32


@dataclass
class DeferredEncoder:
    """Stand for the encoder of a gallery; `load` returns it, after a check of its fingerprint.

    It is loaded in the thread that runs the model: no decoding thread may import a library while that thread looks for
    it.
    """

    spec: str
    fingerprint: Fingerprint
    dim: int
    load: Callable[[], ImageEncoder | TextEncoder]
    _loaded: Any = field(default=None, repr=False)

    @property
    def is_loaded(self) -> bool:
        """Tell whether images can be prepared."""
        return self._loaded is not None

    def open(self) -> Any:
        """Load the encoder, once, and return it."""
        if self._loaded is None:
            self._loaded = self.load()
        return self._loaded

    @property
    def batch(self) -> int:
        """Return the number of prepared images that suits one call of `forward`."""
        return int(self.open().batch)

    def prepare(self, source: Any) -> Any:
        """Decode and preprocess one image; the encoder is loaded already."""
        return self.open().prepare(source)

    def forward(self, inputs: Sequence[Any]) -> Float32:
        """Run the model: raw vectors [n, dim]."""
        vectors: Float32 = self.open().forward(inputs)
        return vectors
