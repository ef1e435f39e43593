"""The anchor set on disk (format 1): manifest, blocks, versions, aliases, journals of builds, verification."""

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.manifest import EncoderInfo, Manifest
from asif.anchorset.format.pair_filter import NO_FILTER, PairFilter
from asif.anchorset.format.protocol import AnchorsIdentity, EncodedSet, OpenAnchors
from asif.anchorset.format.references import parse_reference
from asif.anchorset.format.set_entry import SetEntry
from asif.anchorset.format.verify import Problem, VerificationReport, verify
from asif.anchorset.gallery import Gallery
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.anchorset.select.find import find_rows
from asif.anchorset.select.view import View, open_view
from asif.anchorset.store import Store
from asif.anchorset.write.journal import Journal
from asif.home import default_home

__all__ = [
    "NO_FILTER",
    "AnchorSet",
    "EncodedSet",
    "EncoderInfo",
    "Gallery",
    "Journal",
    "Manifest",
    "PairFilter",
    "AnchorsIdentity",
    "OpenAnchors",
    "Problem",
    "Receipt",
    "VerificationReport",
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
