"""Pairs become an anchor set: read, encode, journal, publish; killed at any moment, taken up again."""

from asif.building.build import BadRows, BuildOptions, Built, Source, Tolerance, build
from asif.building.pair_records import CAPTIONS, Captions

__all__ = ["CAPTIONS", "BadRows", "BuildOptions", "Built", "Captions", "Source", "Tolerance", "build"]
