"""Find the image files of a folder, and name the kinds of files that are not read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from asif.modality import name_many
from asif.pairs.location import Place, list_folder
from asif.pairs.remote import RemotePath

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif", "jpe", "mpo", "apng"),
    *("avif", "avifs", "heic", "heics", "heif", "heifs", "hif"),
)
AUDIO_SUFFIXES = ("wav", "flac", "ogg", "oga", "opus", "mp3")
SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES}
"""The suffixes of the files of each modality that has files."""
_DECODERS = {
    **dict.fromkeys(AUDIO_SUFFIXES, ("soundfile", "pip install 'asif-engine[audio]'")),
    **dict.fromkeys(("avif", "avifs"), ("PIL._avif", "pip install -U pillow")),
    **dict.fromkeys(("heic", "heics", "heif", "heifs", "hif"), ("pillow_heif", "pip install 'asif-engine[heif]'")),
}
"""The module that decodes a suffix, where it may be missing, and how to install it."""
_MAX_SUFFIX = 12
_MAX_KINDS = 8


def walk_images(folder: Place, modality: str = "image") -> Iterator[tuple[Place, str | None]]:
    """Yield each file below a folder with None if it is an image, or else with the kind of file that is not read.

    With the modality "audio" sounds are looked for.

    Files come sorted by name, before those of the folders within. Links to folders are not followed.
    """
    if isinstance(folder, RemotePath):
        for place, inner, names in folder.walk():
            hidden = sorted(name for name in inner if name.startswith("."))
            inner[:] = sorted(set(inner) - set(hidden))
            yield from ((place / name, "hidden folder") for name in hidden)
            for name in sorted(names):
                yield place / name, classify_file(name, modality)
        return
    folders = [Path(folder)]
    while folders:
        yield from _list_images(folders.pop(), folders, modality)


def has_images(folder: Place, modality: str = "image") -> bool:
    """Tell whether there is an image, or another file of a modality, below a folder."""
    return any(kind is None for _, kind in walk_images(folder, modality))


def describe_suffixes(modality: str) -> str:
    """Name the files of a modality by some of their suffixes.

    >>> describe_suffixes("image"), describe_suffixes("audio")
    ('images (.jpg, .png, .webp, …)', 'sounds (.wav, .flac, .ogg, …)')
    """
    shown = ("jpg", "png", "webp") if modality == "image" else SUFFIXES[modality][:3]
    return f"{name_many(modality)} ({', '.join(f'.{suffix}' for suffix in shown)}, …)"


def find_suffix_modality(name: str) -> str | None:
    """Return the modality of files with the suffix of a name; None for other suffixes.

    >>> find_suffix_modality("rain/1.FLAC"), find_suffix_modality("1.jpg"), find_suffix_modality("wav")
    ('audio', 'image', None)
    """
    suffix = name.lower().rpartition(".")[2] if "." in name else ""
    return next((modality for modality, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def list_loose_files(folder: Place, modality: str = "image") -> list[tuple[Place, str | None]]:
    """List what lies directly in a folder, as `walk_images` does, without the folders that it would enter.

    Folders whose names begin with an underscore are listed.
    """
    found: list[tuple[Place, str | None]] = []
    for place in list_folder(folder).values():
        if place.is_dir():
            kind: str | None = "folder that begins with . or _"
        elif isinstance(place, Path) and not place.is_file():
            kind = _name_special(place.is_symlink())
        else:
            kind = classify_file(place.name, modality)
        if not place.is_dir() or place.name[0] in "._":
            found.append((place, kind))
    return found


def list_unnamed(folder: Path, names: Iterable[str], modality: str = "image") -> Iterator[str]:
    """Yield the kind of each file below a folder that is not among `names`, paths relative to the folder or absolute.

    Folders that are not entered do not count if a file in them is named.
    """
    root = os.path.abspath(folder)
    named = {os.path.relpath(os.path.join(root, name), root) for name in names if "\0" not in name}
    entered = {
        str(parent)
        for inner in {os.path.dirname(name) for name in named}
        for parent in (Path(inner), *Path(inner).parents)
    }
    for file, kind in walk_images(folder, modality):
        name = os.path.relpath(str(file), str(folder))
        if name not in named and name not in entered:
            yield kind or f"{modality} that no row names"


def classify_file(name: str, modality: str = "image") -> str | None:
    """Return None for the name of an image that can be decoded here, or else the kind of file that is not read.

    With the modality "audio" that of a sound.

    >>> [classify_file(name) for name in ("a.JPG", "b.jfif", "c.txt", "d", "._a.jpg", ".e.png")]
    [None, None, '.txt', 'no suffix', '._*', 'hidden']
    """
    if name.startswith("."):
        return "._*" if name.startswith("._") else "hidden"
    stem, _, suffix = name.lower().rpartition(".")
    if not stem or suffix not in SUFFIXES[modality]:
        return name_suffix(suffix if stem else "")
    module, install = _DECODERS.get(suffix, (None, ""))
    return None if module is None or _is_installed(module) else f".{suffix} ({install})"


def name_suffix(suffix: str) -> str:
    """Return the kind of file that has a suffix, given without its dot; of several suffixes the last counts.

    >>> [name_suffix(suffix) for suffix in ("txt", "seg.png", "", "what the file shows")]
    ['.txt', '.png', 'no suffix', 'another suffix']
    """
    last = suffix.rpartition(".")[2]
    if not last:
        return "no suffix"
    return f".{last}" if len(last) <= _MAX_SUFFIX and last.isprintable() else "another suffix"


def summarise_unread(kinds: Iterable[str], noun: str = "file") -> tuple[str, ...]:
    """Return one text for files of these kinds, the most frequent first; () if there are none.

    >>> summarise_unread([".heic", "no suffix", ".heic"])
    ('3 files (.heic: 2, no suffix: 1)',)
    """
    counts = Counter(kinds)
    if not counts:
        return ()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{kind}: {count:,}" for kind, count in ranked[:_MAX_KINDS]]
    listed += ["…"] if len(counts) > _MAX_KINDS else []
    return (f"{counts.total():,} {noun}{'s' * (counts.total() != 1)} ({', '.join(listed)})",)


@cache
def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _list_images(folder: Path, folders: list[Path], modality: str) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of one folder, and push the folders within on `folders`, the first by name on top."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield folder, "folder that cannot be read"
        return
    within = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            within.append(folder / entry.name)
        else:
            yield folder / entry.name, _classify_entry(entry, modality)
    folders.extend(reversed(within))


def _classify_entry(entry: os.DirEntry[str], modality: str) -> str | None:
    try:
        if entry.is_dir():
            return "linked folder" if entry.is_symlink() else "hidden folder"
        return classify_file(entry.name, modality) if entry.is_file() else _name_special(entry.is_symlink())
    except OSError:  # links in a circle
        return _name_special(is_link=True)


def _name_special(is_link: bool) -> str:
    return "dangling link" if is_link else "special file"
