"""Class names for prompts: those of a file, or readable forms of the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asif.encoders import find_synset_names
from asif.errors import InputRefused, UsageError
from asif.pairs import LabelledImages
from asif.pairs.label_file import read_label_file, split_names
from asif.pairs.label_values import are_numbers, is_unlabelled, list_labels, parse_number
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
    """Read names by label from a file of any format that `read_label_file` reads.

    Lines, or items of a JSON list, without a label are the names of the labels 0, 1, 2 …, in this order. Raises
    UsageError for anything else, and for names that are numbers.
    """
    entries = read_label_file(path)
    if entries[0].names:
        names = {entry.label: entry.names for entry in entries}
    else:
        names = {str(number): split_names(entry.label) for number, entry in enumerate(entries)}
    for entry, some in zip(entries, names.values(), strict=True):
        if any(not name or is_unlabelled(name) for name in some):
            raise _build_name_error(f"{entry.place} of {path} has the name {list_labels(some)!r}")
    every = [name for some in names.values() for name in some]
    if are_numbers(every):
        raise _build_name_error(f"the names in {path} are numbers: {list_labels(every)}")
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
    written_for_prompts = data.literal and bool(data.templates)
    if are_numbers(data.names or labels) and not written_for_prompts:
        return _name_numbers(data, given)
    own, origin = _own_names(data)
    if given is None:
        return EvaluatedClasses(labels, own, origin)
    unused = tuple(label for label in given if label not in labels)
    if len(unused) == len(given):
        raise UsageError(
            f"none of the {len(given)} labels of the class names ({', '.join(unused[:3])} …) is one of the data's",
            f"some of its {len(labels)} labels: {', '.join(labels[:5])} …",
            "write lines of 'label<TAB>name'",
        )
    names = tuple(given.get(label, name) for label, name in zip(labels, own, strict=True))
    return EvaluatedClasses(labels, names, f"file, else {origin}", unused)


def _name_numbers(data: LabelledImages, given: Mapping[str, _PromptNames] | None) -> EvaluatedClasses:
    """Name labels that are numbers, in any spelling, by the given names, which may list classes without images.

    Raises InputRefused for labels without a name, and for two spellings of one number.
    """
    spelt: dict[float | str, str] = {}
    for label in data.classes:
        other = spelt.setdefault(_number_key(label), label)
        if other != label:
            raise InputRefused(
                f"the labels {other!r} and {label!r} of {data.source.path} are the same number",
                "one spelling of each label",
                "write them alike",
            )
    known = {_number_key(label) for label in given or {}}
    missing = [label for key, label in spelt.items() if key not in known]
    if missing:
        what = "for which there is no name" if given is None else "for some of which there is no name"
        raise InputRefused(
            f"the labels of {data.source.path} are numbers, {what}: {list_labels(missing)}",
            "a name for each",
            "pass --classnames FILE with a line 'label<TAB>name' for each",
        )
    named = {spelt.get(_number_key(label), label): names for label, names in (given or {}).items()}
    return EvaluatedClasses(tuple(named), tuple(named.values()), "file")


def _number_key(label: str) -> float | str:
    number = parse_number(label)
    return label if number is None else number


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


def _build_name_error(came: str) -> UsageError:
    return UsageError(
        came, "names in words, which a text encoder can read", "write them in words, such as: 3<TAB>the digit three"
    )
