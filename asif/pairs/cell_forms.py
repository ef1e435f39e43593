"""Texts that hold something else: images as base64, lists of captions as JSON or as Python writes them."""

from __future__ import annotations

import ast
import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from asif.pairs.columns import CellForm, Columns, ColumnShape
from asif.pairs.image_files import find_suffix_modality

SAMPLED_ROWS = 64
MISSING_TEXTS = ("nan", "NaN", "None", "null", "NULL", "<NA>")
"""What programs write for a missing value: no id, and remarked on as a caption."""
_LIST_FORMS: tuple[CellForm, ...] = ("JSON list", "Python list")
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_HEAD_CHARACTERS = 100
MAX_SAMPLED_CHARACTERS = 1 << 16  # longer captions are not sampled


def list_text_roles(columns: Columns, shapes: Mapping[str, ColumnShape]) -> dict[str, str]:
    """Return {role: column} of the image and caption columns that hold text, which may hold something else."""
    roles = {role: name for role, name in columns.by_role().items() if role.split()[0] in ("image", "captions")}
    return {role: name for role, name in roles.items() if shapes.get(name) == "text"}


def find_forms(columns: Columns, rows: Iterable[Mapping[str, Any]]) -> Columns:
    """Return the columns with the forms that all sampled rows {role: cell} have; a missing or blank cell has any.

    Paths whose suffixes are all those of sounds make the first half of pairs sounds.
    """
    cells: dict[str, list[str]] = {}
    missing: set[str] = set()
    for row in rows:
        for role, cell in row.items():
            if isinstance(cell, str) and cell.strip() in MISSING_TEXTS:
                if role != "image":
                    missing.add(cell.strip())
            elif isinstance(cell, str) and cell.strip() and (role == "image" or len(cell) <= MAX_SAMPLED_CHARACTERS):
                cells.setdefault(role, []).append(cell[:_HEAD_CHARACTERS] if role == "image" else cell)
    found = {role: form for role, texts in cells.items() if (form := _find_form(role, texts)) is not None}
    suffixes = {find_suffix_modality(text) for text in cells.get("image", ())}
    modality = "audio" if suffixes == {"audio"} and columns.modality == "image" else columns.modality
    return replace(columns, forms=found, missing=tuple(sorted(missing)), modality=modality)


def parse_list(text: str, form: CellForm) -> list[Any] | None:
    """Return the list that a text holds, or None.

    >>> parse_list('["a", "b"]', "JSON list"), parse_list("['a', 'b']", "Python list"), parse_list("a [b]", "JSON list")
    (['a', 'b'], ['a', 'b'], None)
    """
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return None
    try:
        items = json.loads(stripped) if form == "JSON list" else ast.literal_eval(stripped)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(items, list) or not all(item is None or isinstance(item, (str, dict)) for item in items):
        return None
    # numpy writes lists without commas, which Python reads as one text
    return items if form == "JSON list" or repr(items) == stripped else None


def decode_base64(text: str) -> bytes | None:
    """Return the bytes of a base64 text or data URL, or None.

    >>> decode_base64("data:image/png;base64,iVBORw=="), decode_base64("photo.png")
    (b'\x89PNG', None)
    """
    content = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(content.split()).translate({45: "+", 95: "/"}), validate=True)
    except (binascii.Error, ValueError):
        return None


def _find_form(role: str, texts: list[str]) -> CellForm | None:
    if role == "image":
        return "base64" if all(map(_is_base64_image, texts)) else None
    return next((form for form in _LIST_FORMS if all(parse_list(text, form) is not None for text in texts)), None)


def _is_base64_image(text: str) -> bool:
    head = text.partition(",")[2] if text.startswith("data:") else text
    return (decode_base64("".join(head.split())[:24]) or b"").startswith(_IMAGE_STARTS)
