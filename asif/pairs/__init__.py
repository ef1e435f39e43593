"""Read image-text pairs from parquet, folders, webdataset tars and precomputed vectors; opens no image."""

from typing import TYPE_CHECKING

from asif.late_names import late_names

if TYPE_CHECKING:
    from asif.pairs.columns import Columns
    from asif.pairs.labelled import LabelledImages, open_captioned, open_labelled
    from asif.pairs.location import Place
    from asif.pairs.open import open_pairs
    from asif.pairs.pair import Pair, PairRecord, Reject
    from asif.pairs.records import read_ids, read_records, write_records
    from asif.pairs.redaction import redact_url
    from asif.pairs.repeated_ids import join_repeated_ids
    from asif.pairs.rows_apart import JoinedRow, RowsApart, index_rows_apart
    from asif.pairs.source import PairSource

__getattr__ = late_names(
    __name__,
    {
        "columns": "Columns",
        "labelled": "LabelledImages open_captioned open_labelled",
        "location": "Place",
        "open": "open_pairs",
        "pair": "Pair PairRecord Reject",
        "records": "read_ids read_records write_records",
        "redaction": "redact_url",
        "repeated_ids": "join_repeated_ids",
        "rows_apart": "JoinedRow RowsApart index_rows_apart",
        "source": "PairSource",
    },
)

__all__ = [
    "Columns",
    "JoinedRow",
    "LabelledImages",
    "Pair",
    "PairRecord",
    "PairSource",
    "Place",
    "Reject",
    "RowsApart",
    "index_rows_apart",
    "join_repeated_ids",
    "open_captioned",
    "open_labelled",
    "open_pairs",
    "read_ids",
    "read_records",
    "redact_url",
    "write_records",
]
