"""Parse the cells of one row into a pair, or reject the row with a reason."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from asif.pairs.cell_forms import MISSING_TEXTS, decode_base64, parse_list
from asif.pairs.columns import CellForm
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.redaction import redact_url
from asif.pairs.remote import RemotePath
from asif.vectors import find_vector_problems

CAPTION_FIELDS = ("raw", "caption", "text", "sentence")
_MAX_REASON = 200  # characters
_MAX_ID = 1000  # characters
_MAX_TEXT = 1 << 20  # characters of a caption or another text; an image may be longer


@dataclass(frozen=True)
class Flaw:
    """Take the place of a cell that could not be read, with the reason."""

    reason: str


class _BadRow(Exception):
    """One row cannot be used; never leaves this file."""


def parse_row(
    row: int,
    cells: Mapping[str, Any],
    folder: Place,
    forms: Mapping[str, CellForm] | None = None,
    needs_captions: bool = True,
    modality: str = "image",
) -> Pair | Reject:
    """Parse the cells {role: value} into a pair, or into a Reject with a plain reason of at most 200 characters.

    Relative image paths start at `folder`; no path may leave a remote folder. Whether a remote file exists is checked
    only when it is read. A role that is missing from `cells` has no column in the source. `forms` {role: form} are
    those of `Columns`. What cannot be an id, such as a float or bytes that are no UTF-8, gives a pair without one.
    Unless it `needs_captions`, a row may come without captions and label. Reasons call the image by its `modality`.

    >>> parse_row(0, {"image": b"...", "captions": ["a dog", " "], "id": 7}, Path())
    Pair(row=0, id='7', image=b'...', captions=('a dog',), source=None, licence=None, url=None, \
image_embedding=None, text_embedding=None, label=None)
    >>> parse_row(1, {"image": b"...", "captions": "  ", "id": 8}, Path())
    Reject(row=1, id='8', reason='caption is empty')
    """
    name = _parse_id(cells.get("id"))
    forms = forms or {}
    try:
        if cells.get("status", "success") != "success":
            raise _BadRow(f"status: {_parse_word('status', cells['status']) or 'null'}")
        return Pair(
            row,
            name,
            _parse_image(cells["image"], folder, forms.get("image")) if "image" in cells else None,
            _choose_captions(cells, forms, name or f"row {row}") if needs_captions else _read_captions(cells, forms),
            source=_parse_word("source", cells.get("source")),
            licence=_parse_word("licence", cells.get("licence")),
            url=_parse_word("url", cells.get("url")),
            image_embedding=_check_vector("image_embedding", cells.get("image_embedding")),
            text_embedding=_check_vector("text_embedding", cells.get("text_embedding")),
            label=_parse_label(cells["label"]) if needs_captions and "label" in cells else _parse_optional_label(cells),
        )
    except _BadRow as bad:
        return Reject(row, name, shorten_reason(_name_modality(str(bad), modality)))


def _name_modality(reason: str, modality: str) -> str:
    """Name the modality of the first half of pairs in a reason.

    >>> _name_modality("image is null", "audio"), _name_modality("caption is null", "audio")
    ('audio is null', 'caption is null')
    """
    return modality + reason.removeprefix("image") if reason.startswith("image") else reason


def shorten_reason(reason: str) -> str:
    """Return a reason with at most 200 characters, for cells of any length.

    >>> shorten_reason("x" * 250)[195:]
    'xxxx…'
    """
    return reason if len(reason) <= _MAX_REASON else f"{reason[: _MAX_REASON - 1]}…"


def _parse_id(cell: Any) -> str | None:
    try:
        name = None if isinstance(cell, (Flaw, float)) else _parse_word("id", cell)
    except _BadRow:
        return None
    return None if name in MISSING_TEXTS or len(name or "") > _MAX_ID else name


def split_vectors(raw: NDArray[Any]) -> list[NDArray[Any] | Flaw]:
    """Split [n, d] into rows, with a Flaw for each that is not finite or zero."""
    problems = find_vector_problems(raw)
    return [Flaw(problems[row]) if row in problems else vector for row, vector in enumerate(raw)]


def _parse_image(cell: Any, folder: Place, form: CellForm | None) -> bytes | Place:
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if cell is None:
        raise _BadRow("image is null")
    if isinstance(cell, bytes) and form is None:
        if not cell:
            raise _BadRow("image is empty")
        return cell
    text = _parse_text("image", cell)
    if form is None:
        return _parse_path(text, folder)
    content = decode_base64(text)
    if not content:
        raise _BadRow("image is not valid base64")
    return content


def _parse_path(name: str, folder: Place) -> Place:
    if not name.strip():
        raise _BadRow("image is empty")
    if "://" in name:
        raise _BadRow(f"image is a URL, not a file: {redact_url(name)}")
    if ".." in Path(name).parts:
        raise _BadRow(f"image path leaves its folder: {name}")
    if not isinstance(folder, Path):
        return _parse_remote_path(name, folder)
    path = folder / name
    if not os.path.isfile(path):  # unlike Path.is_file, False also for names too long for the system
        raise _BadRow(f"image file not found: {name}")
    return path


def _parse_remote_path(name: str, folder: RemotePath) -> RemotePath:
    parts = name.replace("\\", "/").split("/")  # some stores treat them alike
    if parts[0] == "" or ".." in parts or "::" in name:
        raise _BadRow(f"image path leaves its folder: {name}")
    return folder / str(PurePosixPath(name))


def _choose_captions(cells: Mapping[str, Any], forms: Mapping[str, CellForm], otherwise: str) -> tuple[str, ...]:
    """Return the captions of a row, at least one; `otherwise` if the source has no captions. Raises _BadRow."""
    if "captions" not in cells:
        return (otherwise,)
    if all(cells[role] is None for role in cells if role.split()[0] == "captions"):
        raise _BadRow("caption is null")
    captions = _read_captions(cells, forms)
    if not captions:
        raise _BadRow("caption is empty")
    return captions


def _read_captions(cells: Mapping[str, Any], forms: Mapping[str, CellForm]) -> tuple[str, ...]:
    given = [_parse_form(cells[role], forms.get(role)) for role in cells if role.split()[0] == "captions"]
    items = [item for cell in given for item in (cell if isinstance(cell, list) else [cell])]
    return tuple(text for item in items if (text := _parse_caption(item).strip()))


def _parse_optional_label(cells: Mapping[str, Any]) -> str | None:
    label = cells.get("label")
    is_missing = label is None or (isinstance(label, float) and math.isnan(label))
    return None if is_missing else _parse_label(label)


def _parse_form(cell: Any, form: CellForm | None) -> Any:
    """Parse a text that holds a list; a blank or missing one stays as it is."""
    if form is None or not isinstance(cell, (str, bytes)):
        return cell
    cell = _parse_text("caption", cell)
    if not cell.strip() or cell.strip() in MISSING_TEXTS:
        return cell
    items = parse_list(cell, form)
    if items is None:
        raise _BadRow(f"caption is not a {form}, as those of the first rows are")
    return items


def _parse_caption(cell: Any) -> str:
    if isinstance(cell, dict):
        cell = next((cell[field] for field in CAPTION_FIELDS if field in cell), cell)
    return "" if cell is None else _parse_text("caption", cell)


def _parse_word(role: str, cell: Any) -> str | None:
    if isinstance(cell, (int, float)):
        return str(cell)
    return None if cell is None else _parse_text(role, cell).strip() or None


def _parse_label(cell: Any) -> str:
    if isinstance(cell, float) and not math.isnan(cell):  # a column of numbers with gaps is one of floats
        if not cell.is_integer():
            raise _BadRow(f"label is {cell}, no whole number")
        cell = int(cell)
    if cell is None or isinstance(cell, float):
        raise _BadRow("label is null")
    label = _parse_word("label", cell)
    if label is None:
        raise _BadRow("label is empty")
    return label


def _parse_text(role: str, cell: Any) -> str:
    if isinstance(cell, Flaw):
        raise _BadRow(f"{role} {cell.reason}")
    try:
        text = cell.decode() if isinstance(cell, bytes) else cell
        if not isinstance(text, str):
            raise _BadRow(f"{role} is of type {type(cell).__name__}, not text")
        if len(text) > _MAX_TEXT and role != "image":
            raise _BadRow(f"{role} has {len(text):,} characters, more than {_MAX_TEXT:,}")
        text.encode()
    except UnicodeError:
        raise _BadRow(f"{role} is not valid UTF-8") from None
    if "\0" in text:
        raise _BadRow(f"{role} contains a NUL byte")
    return text


def _check_vector(role: str, cell: Any) -> NDArray[Any] | None:
    if isinstance(cell, Flaw):
        raise _BadRow(f"{role.replace('_', ' ')} {cell.reason}")
    vector: NDArray[Any] | None = cell
    return vector
