"""Write the tokens of pairs, segment by segment: a killed run can be resumed, and a rename publishes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.format.atomic_io import (
    TEMPORARY_PREFIX,
    atomic_write_bytes,
    fsync_path,
    make_folder,
    translate_write_errors,
)
from asif.anchorset.format.locks import acquire_lock
from asif.anchorset.format.own_store import close_to_others
from asif.anchorset.format.rejects import reject_fields
from asif.anchorset.format.row_hash import serialize_record
from asif.anchorset.tokens.pair_tokens import (
    TOKEN_ARRAYS,
    TOKEN_FILES,
    TOKENS_FORMAT,
    TOKENS_HEADER,
    read_token_rejects,
    read_tokens_header,
)
from asif.anchorset.tokens.token_rows import TokenRows
from asif.errors import Busy, InputRefused, IntegrityError, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Side, canonical_json, dump_checksummed


class TokenJournal:
    """Collect tokens in `<path>.partial` until they cover all rows of a plan.

    `plan` is everything that decides the outcome: `encoders` {side: fields of the fingerprint} and `source`, whose
    `rows` is the number of rows. An earlier run of the same plan is resumed after its last segment, that of another
    plan is removed. Locked while open; raises Busy.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self._path, self._folder = path, path.with_name(f"{path.name}.partial")
        _check_no_foreign_files(path, self._folder)
        make_folder(path.parent)
        self._lock_file = path.with_name(f"{path.name}.lock")
        self._lock = acquire_lock(self._lock_file, self._busy)
        try:
            self._header = self._resume({"format": TOKENS_FORMAT, **plan})
        except BaseException:
            self.close()
            raise

    def _busy(self) -> Busy:
        return Busy(
            f"another process is writing the tokens in {self._path}",
            "one at a time",
            "wait for it, or stop it; its finished work is saved",
        )

    def _resume(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Truncate the files of an earlier run to the bytes its header counts; start over if that is impossible."""
        header = {**plan, "next_row": 0, "dims": {}, "files": dict.fromkeys(TOKEN_FILES, 0)}
        try:
            found = read_tokens_header(self._folder)
            same = canonical_json({name: found[name] for name in plan}) == canonical_json(dict(plan))
            if same and all((self._folder / name).stat().st_size >= found["files"][name] for name in TOKEN_FILES):
                header = {name: value for name, value in found.items() if name != "checksum"}
        except (IntegrityError, KeyError, OSError):  # missing or damaged: start over
            pass
        if not header["next_row"] and self._folder.exists():
            shutil.rmtree(self._folder)
        make_folder(self._folder)
        with translate_write_errors(self._folder, 4096):
            for name in TOKEN_FILES:
                with open(self._folder / name, "ab") as file:
                    file.truncate(header["files"][name])
                close_to_others(self._folder / name)
        return header

    @property
    def next_row(self) -> int:
        """Return the first source row not yet covered."""
        return int(self._header["next_row"])

    @property
    def bytes(self) -> int:
        """Return the bytes written so far."""
        return sum(self._header["files"].values())

    def append(
        self,
        image: TokenRows,
        text: TokenRows,
        records: Sequence[PairRecord],
        rejects: Sequence[Reject],
        next_row: int,
    ) -> None:
        """Add the source rows up to `next_row`, durably: an image for each record, a text for each caption of each."""
        if len(image) != len(records) or len(text) != sum(len(record.captions) for record in records):
            raise ValueError(f"{len(image)} images and {len(text)} texts for {len(records)} records")
        sides: dict[Side, TokenRows] = {"image": image, "text": text}
        added = {
            **{f"{side}.{kind}": _array_bytes(rows, kind) for side, rows in sides.items() for kind in TOKEN_ARRAYS},
            "pairs.jsonl": b"".join(serialize_record(record) + b"\n" for record in records),
            "rejects.jsonl": b"".join(canonical_json(reject_fields(reject)) + b"\n" for reject in rejects),
        }
        dims = {side: [rows.values.shape[1], rows.pooled.shape[1]] for side, rows in sides.items()} if records else {}
        if dims and self._header["dims"] not in ({}, dims):
            raise ValueError(f"tokens of {dims} dimensions among those of {self._header['dims']}")
        with translate_write_errors(self._folder, sum(map(len, added.values()))):
            for name, data in added.items():
                with open(self._folder / name, "ab") as file:
                    file.write(data)
                fsync_path(self._folder / name)
        files = {name: self._header["files"][name] + len(data) for name, data in added.items()}
        self._header |= {"next_row": next_row, "dims": self._header["dims"] or dims, "files": files}
        atomic_write_bytes(self._folder / TOKENS_HEADER, dump_checksummed(self._header))

    def publish(self) -> None:
        """Rename the folder to its final name; raises InputRefused, and removes it, if no pair was kept."""
        rows = self._header["source"]["rows"]
        if self.next_row != rows:
            raise ValueError(f"tokens of {self.next_row} of {rows} rows")
        if not self._header["dims"]:
            first = "".join(f": row {reject.row}: {reject.reason}" for reject in read_token_rejects(self._folder)[:1])
            shutil.rmtree(self._folder)
            raise InputRefused(f"none of {rows:,} rows can be used{first}", "at least one pair", "mend the input")
        with translate_write_errors(self._path, 4096):
            os.rename(self._folder, self._path)
            fsync_path(self._path.parent)

    def close(self) -> None:
        """Release the lock; appended segments stay on disk."""
        if self._lock.is_locked:
            self._lock_file.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> TokenJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_no_foreign_files(path: Path, partial: Path) -> None:
    """Raise UsageError if the target, or the partial folder, holds files that are not ours."""
    names = {file.name for file in partial.iterdir()} if partial.is_dir() else set()
    ours = {name for name in names if name in {TOKENS_HEADER, *TOKEN_FILES} or name.startswith(TEMPORARY_PREFIX)}
    for place, foreign in ((path, os.path.lexists(path)), (partial, partial.is_symlink() or names != ours)):
        if foreign:
            raise UsageError(
                f"{place} is there already, and is not what is written here",
                "a folder that does not exist yet",
                "choose another place, or remove the existing files",
            )


def _array_bytes(rows: TokenRows, kind: str) -> bytes:
    """Return the bytes on disk of one array of a side."""
    values: Any = getattr(rows, kind)
    return np.ascontiguousarray(values, TOKEN_ARRAYS[kind]).tobytes()
