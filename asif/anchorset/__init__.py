"""The anchor set on disk (format 1): manifest, blocks, versions, aliases, builds in progress, verify."""

from asif.anchorset.finding import find_rows
from asif.anchorset.journal import Journal
from asif.anchorset.manifest import EncoderInfo, Manifest
from asif.anchorset.mask import EVERYTHING, Mask
from asif.anchorset.names import parse_reference
from asif.anchorset.opened import AnchorSet
from asif.anchorset.protocol import Named, OpenAnchors
from asif.anchorset.receipt_files import read_receipt
from asif.anchorset.receipts import Receipt
from asif.anchorset.store import SetEntry, Store, default_home
from asif.anchorset.verify import Problem, Report, verify
from asif.anchorset.view import View, open_view

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
