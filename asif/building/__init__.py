"""Build anchor sets from pairs: read, encode, journal, publish; a killed build resumes where it stopped."""

from asif.building.build import BadRowCounter, BuildOptions, BuildResult, PairReader, Tolerance, build_anchor_set
from asif.building.pair_records import CAPTION_MODES, CaptionMode

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
