"""The anchor set on disk (format 1): manifest, blocks, versions, aliases, builds in progress, verify."""

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.manifest import EncoderInfo, Manifest
from asif.anchorset.format.pair_filter import EVERYTHING, Mask
from asif.anchorset.format.protocol import Named, OpenAnchors
from asif.anchorset.format.references import parse_reference
from asif.anchorset.format.verify import Problem, Report, verify
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.anchorset.select.find import find_rows
from asif.anchorset.select.view import View, open_view
from asif.anchorset.store import SetEntry, Store, default_home
from asif.anchorset.write.journal import Journal

__all__ = [
    "EVERYTHING",
    "AnchorSet",
    "EncoderInfo",
    "Journal",
    "Manifest",
    "Mask",
    "Named",
    "OpenAnchors",
    "Problem",
    "Receipt",
    "Report",
    "SetEntry",
    "Store",
    "View",
    "default_home",
    "find_rows",
    "open_view",
    "parse_reference",
    "read_receipt",
    "verify",
]
