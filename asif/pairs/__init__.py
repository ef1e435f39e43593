"""Image-text pairs: read from parquet, folders, webdataset tars and precomputed vectors; no image is opened."""

from asif.pairs.columns import Columns
from asif.pairs.labelled import Labelled, open_captioned, open_labelled
from asif.pairs.location import Place
from asif.pairs.open import open_pairs
from asif.pairs.pair import Pair, PairRecord, Reject
from asif.pairs.records import read_ids, read_records, write_records
from asif.pairs.redaction import redacted
from asif.pairs.source import PairSource

__all__ = [
    "Columns",
    "Labelled",
    "Pair",
    "PairRecord",
    "PairSource",
    "Place",
    "Reject",
    "open_captioned",
    "open_labelled",
    "open_pairs",
    "read_ids",
    "read_records",
    "redacted",
    "write_records",
]
