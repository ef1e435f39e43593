"""The grid of settings that tuning tries for each aligner, and the default settings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, product, zip_longest

from asif.aligners import Hubness
from asif.aligners.relative import compute_default_k
from asif.tuning.criteria import Task

_SIZES = (None, 64, 128, 256)


@dataclass(frozen=True)
class AlignerSetting:
    """Hold one aligner with parameters; `k_share` is its k as a multiple of `compute_default_k` of the anchors."""

    family: str
    parameters: tuple[str, ...] = ()
    k_share: float | None = None

    @property
    def is_lexical(self) -> bool:
        """Tell whether this is `cca(words)`, with any weight of words."""
        return any(parameter.startswith("words") for parameter in self.parameters)

    def name(self, count: int) -> str:
        """Return the name of the aligner for `count` anchors, as `make_aligner` parses it.

        >>> AlignerSetting("asif", ("power=3",), 2.0).name(1000), AlignerSetting("procrustes").name(1000)
        ('asif(k=116,power=3)', 'procrustes')
        """
        parameters = self.parameters
        if self.k_share is not None:
            parameters = (f"k={max(1, round(self.k_share * compute_default_k(count)))}", *parameters)
        return f"{self.family}({','.join(parameters)})" if parameters else self.family


MAX_PAIRS_WITH_WORDS = 30_000
"""Of more anchors the default reads no words, so that edits of a set are fitted within seconds."""

_UNCORRECTED = Hubness("none")


def default_setting(
    task: Task, pairs: int, *, texts_repeat: bool, images_repeat: bool = False, words: bool = True
) -> tuple[AlignerSetting, Hubness]:
    """Return the setting that works well on most sets of `pairs` anchors: it is chosen unless another is proven better.

    `words` tells whether queries come with their texts.

    >>> for task in ("classify", "search"):
    ...     print(*(default_setting(task, pairs, texts_repeat=False)[0].family for pairs in (1_000, 50_000)))
    cca(words)+asif asif
    cca(words) cca
    """
    lexical = "cca(words)" if words else "cca(words=0)"
    if task == "search":
        correction = Hubness("lse" if images_repeat else "nnn")
        return AlignerSetting(lexical if pairs <= MAX_PAIRS_WITH_WORDS else "cca"), correction
    if texts_repeat:
        return AlignerSetting(lexical if pairs <= MAX_PAIRS_WITH_WORDS else "cca"), _UNCORRECTED
    return AlignerSetting(f"{lexical}+asif" if pairs <= MAX_PAIRS_WITH_WORDS else "asif"), _UNCORRECTED


def build_grid(smallest_dim: int, *, words: bool = True) -> list[AlignerSetting]:
    """List all settings, interleaved by aligner, so that each aligner is tried before the deadline.

    `words` tells whether queries come with their texts.
    """
    sizes = [size for size in _SIZES if size is None or size < smallest_dim]
    relative = [
        AlignerSetting("asif", (f"power={power}", *(["centre"] if centre else [])), share)
        for power, share, centre in product((3, 2, 4), (1.0, 2.0, 0.5, 4.0), (False, True))
    ]
    procrustes = [AlignerSetting("procrustes", _format_size(size)) for size in sizes]
    ridge = [
        AlignerSetting("ridge", (f"lambda={strength}", f"towards={side}"))
        for strength, side in product((1, 0.1), ("image", "text"))
    ]
    lexical = [AlignerSetting("cca", ("words" if words else "words=0", *strength)) for strength in ((), ("lambda=3",))]
    cca = lexical + [
        AlignerSetting("cca", (f"lambda={strength}", *_format_size(size)))
        for strength, size in product((1, 3, 0.3, 10), sizes)
    ]
    interleaved = zip_longest(relative, procrustes, ridge, cca)
    return [setting for setting in chain.from_iterable(interleaved) if setting is not None]


def _format_size(size: int | None) -> tuple[str, ...]:
    """Return the `size` parameter, if there is one."""
    return () if size is None else (f"size={size}",)
