"""Folders in CLIP_benchmark's layout: `test/0.tar`, `test/1.tar` … and lists of class names and templates."""

from __future__ import annotations

from dataclasses import dataclass

from asif.errors import InputRefused, UsageError
from asif.pairs.columns import TextRole
from asif.pairs.image_files import summarise_unread
from asif.pairs.location import Place, list_folder

_SPLIT = "test"
_KINDS: dict[TextRole, str] = {"label": "classification", "captions": "retrieval"}


@dataclass(frozen=True)
class BenchmarkFolder:
    """Hold the tars of the test split, and the class names and templates if the folder has them.

    `unread` names further tars of that split, beyond the number that nshards.txt gives.
    """

    files: tuple[Place, ...]
    unread: tuple[str, ...]
    classes: tuple[str, ...] | None
    templates: tuple[str, ...]

    @classmethod
    def find(cls, path: Place, text_role: TextRole) -> BenchmarkFolder | None:
        """Read the folder's lists; None if it has another layout.

        Raises InputRefused for tars that are missing, UsageError if the folder declares another task.
        """
        count = path / _SPLIT / "nshards.txt"
        if not path.is_dir() or not count.is_file():
            return None
        kind = " ".join(_read_lines(path / "dataset_type.txt") or [_KINDS["label"]]).lower()
        if kind != _KINDS[text_role]:
            raise UsageError(
                f"{path} is for {kind}, as its dataset_type.txt says",
                f"a folder for {_KINDS[text_role]}",
                "choose the task that goes with the data",
            )
        shards = "".join(_read_lines(count) or [])
        if not shards.isdecimal() or int(shards) < 1:
            raise InputRefused(f"{count} says {shards!r}", "the number of tars", "write it again")
        files = tuple(path / _SPLIT / f"{number}.tar" for number in range(int(shards)))
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InputRefused(
                f"{path / _SPLIT} lacks {', '.join(missing[:5])}, {len(missing)} of {shards} tars",
                f"0.tar to {int(shards) - 1}.tar, as nshards.txt says",
                "download the rest",
            )
        read = {file.name for file in files}
        more = [name for name in list_folder(path / _SPLIT) if name.lower().endswith(".tar") and name not in read]
        unread = summarise_unread("beyond nshards.txt" for _ in more)
        names = _read_lines(path / "classnames.txt")
        templates = _read_lines(path / "zeroshot_classification_templates.txt")
        return cls(files, unread, tuple(names) if names else None, tuple(templates or ()))


def _read_lines(path: Place) -> list[str] | None:
    if not path.is_file():
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputRefused(f"{path} is not valid UTF-8", "a UTF-8 text", "convert it to UTF-8") from error
