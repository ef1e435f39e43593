"""Class names for prompts: those of a file, or readable forms of the labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asif.encoders import find_synset_names
from asif.errors import InputRefused, UsageError
from asif.pairs import LabelledImages
from asif.prompts import make_readable

_PromptNames = tuple[str, ...]
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class EvaluatedClasses:
    """Hold the labels of an evaluation, and the names of each in prompts, one or more.

    `origin` is the source of the names; `unused` are labels of the file of names that no class has.
    """

    labels: tuple[str, ...]
    names: tuple[_PromptNames, ...]
    origin: str
    unused: tuple[str, ...] = ()


def read_classnames(path: Path) -> dict[str, _PromptNames]:
    """Read names by label: lines of `label<TAB>name[ | name ...]`, or a JSON object {label: name or list of names}.

    Lines without any tab are the names of the labels 0, 1, 2 …, in this order. Raises UsageError for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _build_error(f"{path} cannot be read ({error})") from error
    if text.lstrip()[:1] == "{":
        return _parse_json(path, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise _build_error(f"{path} is empty")
    if not any("\t" in line for line in lines):
        return {str(number): _split_names(line) for number, line in enumerate(lines)}
    names: dict[str, _PromptNames] = {}
    for number, line in enumerate(lines, start=1):
        label, tab, rest = line.partition("\t")
        if not tab or not label.strip() or not all(_split_names(rest)):
            raise _build_error(f"line {number} of {path} is {line[:80]!r}")
        _add_names(names, label.strip(), _split_names(rest), path)
    return names


def resolve_classes(data: LabelledImages, given: Mapping[str, _PromptNames] | None) -> EvaluatedClasses:
    """Decide which classes a data set has, and their names in prompts.

    Given names take precedence over names that came with the data. Of the latter, names written for prompts are used
    as they are, WordNet ids are named by their first lemma, and others are made readable. Raises UsageError if no
    given name fits a class, InputRefused for labels that are numbers without a name.
    """
    labels = data.classes
    if not labels:
        raise InputRefused(f"{data.source.path} has no labels", "at least one labelled image", "check the path")
    numbers = data.names is None and all(label.isdecimal() for label in labels)
    if numbers:
        missing = [label for label in labels if label not in (given or {})]
        if missing:
            what = "for which there is no name" if given is None else "for some of which there is no name"
            raise InputRefused(
                f"the labels of {data.source.path} are numbers, {what}: {', '.join(missing[:5])}",
                "a name for each",
                "pass --classnames FILE with a line 'label<TAB>name' for each",
            )
    own, origin = _own_names(data)
    if given is None:
        return EvaluatedClasses(labels, own, origin)
    if numbers:  # the file lists all classes, including those without images
        return EvaluatedClasses(tuple(given), tuple(given.values()), "file")
    unused = tuple(label for label in given if label not in labels)
    if len(unused) == len(given):
        raise UsageError(
            f"none of the {len(given)} labels of the class names ({', '.join(unused[:3])} …) is one of the data's",
            f"some of its {len(labels)} labels: {', '.join(labels[:5])} …",
            "write lines of 'label<TAB>name'",
        )
    names = tuple(given.get(label, name) for label, name in zip(labels, own, strict=True))
    return EvaluatedClasses(labels, names, f"file, else {origin}", unused)


def _own_names(data: LabelledImages) -> tuple[tuple[_PromptNames, ...], str]:
    """Name the classes by the data alone: one name each, and where the names come from."""
    if data.names and data.literal:
        return tuple((name,) for name in data.names), "dataset"
    spelt = data.names or data.classes
    if all(_SYNSET.fullmatch(label) for label in spelt):
        lemmas = find_synset_names(spelt)
        if lemmas:
            return tuple((several.split(",")[0],) for several in lemmas), "WordNet"
    return tuple((make_readable(label),) for label in spelt), "readable labels"


def _parse_json(path: Path, text: str) -> dict[str, _PromptNames]:
    names: dict[str, _PromptNames] = {}
    try:
        pairs = json.loads(text, object_pairs_hook=list)  # a dict would hide labels that come twice
    except (ValueError, RecursionError) as error:
        raise _build_error(f"{path} is not JSON ({error})") from error
    for label, value in pairs:
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not several or not all(isinstance(n, str) and n.strip() for n in several):
            raise _build_error(f"{path} has {value!r} for {label!r}")
        _add_names(names, label, tuple(name.strip() for name in several), path)
    if not names:
        raise _build_error(f"{path} is empty")
    return names


def _split_names(names: str) -> _PromptNames:
    return tuple(name.strip() for name in names.split(" | "))


def _add_names(names: dict[str, _PromptNames], label: str, names_of_label: _PromptNames, path: Path) -> None:
    if label in names:
        raise _build_error(f"{path} names {label!r} twice")
    names[label] = names_of_label


def _build_error(came: str) -> UsageError:
    return UsageError(
        came,
        "lines of 'label<TAB>name[ | other name]', or a JSON object of labels and names, in UTF-8",
        "write a line for each label, once",
    )
