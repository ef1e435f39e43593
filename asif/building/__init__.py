"""Build anchor sets from pairs: read, encode, journal, publish; a killed build resumes where it stopped."""

from typing import TYPE_CHECKING

from asif.late_names import late_names

if TYPE_CHECKING:
    from asif.building.bad_rows import BadRowCounter, Tolerance
    from asif.building.build import BuildOptions, BuildResult, PairReader, build_anchor_set
    from asif.building.pair_records import CAPTION_MODES, CaptionMode

__getattr__ = late_names(
    __name__,
    {
        "bad_rows": "BadRowCounter Tolerance",
        "build": "BuildOptions BuildResult PairReader build_anchor_set",
        "pair_records": "CAPTION_MODES CaptionMode",
    },
)

__all__ = [
    "CAPTION_MODES",
    "BadRowCounter",
    "BuildOptions",
    "BuildResult",
    "CaptionMode",
    "PairReader",
    "Tolerance",
    "build_anchor_set",
]
