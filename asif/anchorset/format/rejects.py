"""Rejects on disk: the rows of the source that did not become anchors, one JSON object each."""

from __future__ import annotations

from typing import Any

from asif.anchorset.format.checksummed_json import JsonFields
from asif.pairs.pair import Reject


def reject_fields(reject: Reject) -> dict[str, Any]:
    """Return a reject as a JSON object; `parse_reject` reads it back.

    >>> reject_fields(Reject(7, None, "caption is empty"))
    {'row': 7, 'id': None, 'reason': 'caption is empty'}
    """
    return {"row": reject.row, "id": reject.id, "reason": reject.reason}


def parse_reject(fields: JsonFields) -> Reject:
    """Read a reject from an untrusted JSON object; raises IntegrityError.

    >>> parse_reject(JsonFields({"row": 7, "id": None, "reason": "caption is empty"}, "here"))
    Reject(row=7, id=None, reason='caption is empty')
    """
    return Reject(fields.integer("row"), None if fields.missing("id") else fields.text("id"), fields.text("reason"))
