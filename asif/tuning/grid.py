"""The settings that are tried: a grid for each aligner."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, product, zip_longest

from asif.aligners import Hubness
from asif.aligners.relative import usual_k
from asif.tuning.criteria import Task

SIZES = (None, 64, 128, 256)


@dataclass(frozen=True)
class Setting:
    """One aligner with parameters; `k_share` is its k as a multiple of the usual one, which depends on the anchors."""

    family: str
    parameters: tuple[str, ...] = ()
    k_share: float | None = None

    def name(self, count: int) -> str:
        """Return what the aligner is called for so many anchors, as `make_aligner` reads it.

        >>> Setting("asif", ("power=3",), 2.0).name(1000), Setting("procrustes").name(1000)
        ('asif(k=116,power=3)', 'procrustes')
        """
        every = self.parameters
        if self.k_share is not None:
            every = (f"k={max(1, round(self.k_share * usual_k(count)))}", *every)
        return f"{self.family}({','.join(every)})" if every else self.family


USUAL: dict[Task, tuple[Setting, Hubness]] = {
    "classify": (Setting("asif", ("power=3",), 1.0), Hubness("none")),
    "search": (Setting("procrustes"), Hubness("nnn")),
}
"""What does well on most sets, where nothing better is known."""

LABELS_REPEAT = (Setting("cca", ("lambda=1",)), Hubness("none"))
"""What does well for labels where several images share each text: a few dozen pairs are enough for it."""


def usual(task: Task, *, texts_repeat: bool) -> tuple[Setting, Hubness]:
    """Return what is chosen where nothing is proven to be better.

    >>> usual("classify", texts_repeat=True)[0].family, usual("search", texts_repeat=True)[0].family
    ('cca', 'procrustes')
    """
    return LABELS_REPEAT if task == "classify" and texts_repeat else USUAL[task]


def grid(smallest_dim: int) -> list[Setting]:
    """List all settings, the aligners taking turns, so that each has been heard when time runs out early."""
    sizes = [size for size in SIZES if size is None or size < smallest_dim]
    relative = [
        Setting("asif", (f"power={power}", *(["centre"] if centre else [])), share)
        for power, share, centre in product((3, 2, 4), (1.0, 2.0, 0.5, 4.0), (False, True))
    ]
    procrustes = [Setting("procrustes", sized(size)) for size in sizes]
    ridge = [
        Setting("ridge", (f"lambda={strength}", f"towards={side}"))
        for strength, side in product((1, 0.1), ("image", "text"))
    ]
    cca = [Setting("cca", (f"lambda={strength}", *sized(size))) for strength, size in product((1, 3, 0.3, 10), sizes)]
    turns = zip_longest(relative, procrustes, ridge, cca)
    return [setting for setting in chain.from_iterable(turns) if setting is not None]


def sized(size: int | None) -> tuple[str, ...]:
    """Name a size, where there is one."""
    return () if size is None else (f"size={size}",)
