"""Labels for zero-shot classification: put into templates, encoded, and represented as candidates for images."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asif.aligners import FittedAligner, TemplateMode
from asif.compare import Candidates
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.pairs.label_file import check_repetitions, read_label_file
from asif.pairs.label_values import are_numbers, is_unlabelled, list_labels
from asif.vectors import Embeddings, Int64, join_rows

DEFAULT_TEMPLATES = ("{}",)
MAX_LABEL_LENGTH = 10_000
PROMPTS_PER_BATCH = 4096


@dataclass(frozen=True)
class Labels:
    """Labels, the templates of their prompts, and how the prompts of one label are combined.

    `mean` averages the unit embeddings of a label's prompts and renormalises; `max` scores each prompt and takes the
    best. `names` are one or more texts for each label that replace it in its prompts, combined as templates
    are; () means the labels themselves. Raises UsageError for no, blank or repeated labels, for templates without a
    place for the label (`{}` or `{c}`), and for texts with NUL characters, invalid UTF-8 or more than 10,000
    characters.

    >>> Labels(("cat", "dog"), ("a photo of a {}.", "{c}")).prompts()
    ['a photo of a cat.', 'cat', 'a photo of a dog.', 'dog']
    >>> Labels(("n02123045", "n02084071"), ("a {}.",), names=(("cat", "house cat"), ("dog",))).prompts()
    ['a cat.', 'a house cat.', 'a dog.']
    >>> Labels(("cat", "cat"))
    Traceback (most recent call last):
        ...
    asif.errors.UsageError: the label 'cat' comes 2 times
      expected: every label once
      to do:    remove the repetition
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    mode: TemplateMode = "mean"
    names: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        if self.names:
            _check_names(self.labels, self.names)
        _check_templates(self.templates)
        if self.mode not in ("mean", "max"):
            raise UsageError(f"the template mode is {self.mode!r}", "mean or max", "pass --template-mode mean")

    def check_words(self) -> None:
        """Raise UsageError if the labels, or their names, are numbers or marks of no label: no text encoder reads them.

        Their prompts may still have vectors from elsewhere.
        """
        texts = self.names or [(label,) for label in self.labels]
        _check_words("", [(f"label {number}", text) for number, some in enumerate(texts, start=1) for text in some])

    def prompts(self) -> list[str]:
        """Return the prompts of all labels, label by label and name by name."""
        return [prompt for label in self.prompts_by_label() for prompt in label]

    def prompts_by_label(self) -> list[list[str]]:
        """Return the prompts of each label."""
        names = self.names or [(label,) for label in self.labels]
        return [[fill_template(template, name) for name in some for template in self.templates] for some in names]


def fill_template(template: str, label: str) -> str:
    """Put a label into a template; braces in the label are not replaced."""
    return template.replace("{c}" if "{c}" in template else "{}", label)


def parse_labels(text: str, *, words: bool = True) -> tuple[str, ...]:
    """Parse labels that are separated by commas; a label in double quotes may contain commas.

    Raises UsageError for unbalanced quotes and, with `words`, for labels that are numbers or marks of no label.

    >>> parse_labels('cat, "tench, Tinca tinca"')
    ('cat', 'tench, Tinca tinca')
    """
    try:
        rows = list(csv.reader([text], strict=True, skipinitialspace=True)) if '"' in text else [text.split(",")]
    except csv.Error as error:
        raise UsageError(
            f"the labels {text[:80]!r} cannot be read ({error})",
            "labels separated by commas, those with commas in double quotes",
            """pass for example --labels 'cat,"tench, Tinca tinca"'""",
        ) from error
    labels = tuple(cell.strip() for cell in (rows or [[]])[0]) or ("",)
    if words:
        _check_words("--labels", [(f"label {number}", label) for number, label in enumerate(labels, start=1)])
    return labels


def read_labels(path: Path, *, words: bool = True) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Read labels and their names from a file; the names are () if the file gives none.

    A label that is a number is replaced by its first name, unless several have the same. Raises UsageError, which names
    file and line, for what `read_label_file` refuses, for repetitions, and, with `words`, for texts that are numbers or
    marks of no label.
    """
    entries = read_label_file(path)
    check_repetitions(path, entries)
    texts = [(entry.place, text) for entry in entries for text in entry.names or (entry.label,)]
    for place, text in texts:
        _check_text(text, f"{place} of {path}", "give one label per line")
    if words:
        _check_words(str(path), texts)
    labels, names = tuple(entry.label for entry in entries), tuple(entry.names for entry in entries if entry.names)
    first = tuple(some[0] for some in names)
    return (first if names and are_numbers(labels) and len(set(first)) == len(first) else labels), names


def _check_words(origin: str, texts: Sequence[tuple[str, str]]) -> None:
    """Refuse texts (place, text) for prompts that are numbers, or marks of images without a label."""
    of_origin = f" of {origin}" if origin else ""
    for place, text in texts:
        if text.strip() and is_unlabelled(text):
            raise UsageError(
                f"{place}{of_origin} is {text!r}, which marks images without a label", "a word or more", "remove it"
            )
    words = [text for _, text in texts]
    if are_numbers(words):
        raise UsageError(
            f"the labels{of_origin} are numbers: {list_labels(words)}",
            "words, which a text encoder can read",
            "pass --labels-file FILE with a line 'label<TAB>name' for each, such as: 3<TAB>the digit three"
            + ("" if origin else "; in Python Labels(labels, names=...)"),
        )


def _check_labels(labels: Sequence[str]) -> None:
    """Refuse blank, repeated or unreadable labels."""
    if not labels:
        raise UsageError("there are no labels", "at least one label", 'pass --labels "cat,dog" or --labels-file FILE')
    for number, label in enumerate(labels, start=1):
        if not label.strip():
            raise UsageError(f"label {number} of {len(labels)} is blank", "a word or more", "remove it")
        _check_text(label, f"label {number}", "give one label per line, or separate labels by commas")
    label, times = Counter(label.strip() for label in labels).most_common(1)[0]
    if times > 1:
        raise UsageError(f"the label {label!r} comes {times} times", "every label once", "remove the repetition")


def _check_names(labels: Sequence[str], names: Sequence[Sequence[str]]) -> None:
    """Refuse blank or unreadable names, and names that do not match the labels in number."""
    if len(names) != len(labels):
        raise UsageError(
            f"{len(names)} lists of names for {len(labels)} labels", "one for each", "give every label one"
        )
    for label, some in zip(labels, names, strict=True):
        if not some or not all(name.strip() for name in some):
            raise UsageError(f"the label {label!r} has a blank name, or none", "a word or more", "give it a name")
        for name in some:
            _check_text(name, f"a name of {label!r}", "shorten it")


def _check_text(text: str, subject: str, fix: str) -> None:
    """Raise UsageError for a text that no encoder should get; `fix` is the advice for one that is too long."""
    if "\0" in text:
        raise UsageError(f"{subject} contains a NUL character: {text[:40]!a}", "plain text", "remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{subject} is not valid UTF-8: {text[:40]!a}", "UTF-8 text", "convert it to UTF-8")
    if len(text) > MAX_LABEL_LENGTH:
        raise UsageError(
            f"{subject} has {len(text):,} characters: {text[:40]!a}…", f"at most {MAX_LABEL_LENGTH:,}", fix
        )


def _check_templates(templates: Sequence[str]) -> None:
    """Refuse templates without a place for the label."""
    if not templates:
        raise UsageError("there are no templates", "at least one template", "pass --template '{}'")
    for template in templates:
        if "{}" not in template and "{c}" not in template:
            raise UsageError(
                f"the template {template[:80]!r} has no place for the label",
                "a text with {} or {c} in it",
                "pass for example --template 'a photo of a {}.'",
            )
        _check_text(template, "a template", "shorten it")


def represent_labels(
    labels: Labels, encode: Callable[[Sequence[str]], Embeddings], fitted: FittedAligner, engine: KernelName = "auto"
) -> Candidates:
    """Encode the prompts of labels and represent them over the anchors, some thousands at a time."""
    prompts = labels.prompts_by_label()
    widest = max(map(len, prompts))
    step = max(1, PROMPTS_PER_BATCH // widest)
    parts = []
    for start in range(0, len(prompts), step):
        some = prompts[start : start + step]
        embeddings = encode([prompt for label in some for prompt in label])
        if widest > 1:
            embeddings = _combine_prompts(embeddings, np.array([len(label) for label in some]), widest, labels.mode)
        parts.append(fitted.represent("text", embeddings, engine))
    return Candidates(join_rows(parts), widest if labels.mode == "max" else 1)


def _combine_prompts(embeddings: Embeddings, sizes: Int64, widest: int, mode: TemplateMode) -> Embeddings:
    """Combine the `sizes` prompt embeddings of each label: `mean` gives one row, `max` gives `widest` rows per label.

    For `max`, the prompts of a label are repeated in turn to fill its rows, which does not change the best of them.
    """
    starts = np.cumsum(sizes) - sizes
    if mode == "mean":
        sums, every = np.add.reduceat(embeddings.values, starts, axis=0, dtype=np.float64), embeddings.texts
        texts = [every[start : start + size] for start, size in zip(starts, sizes, strict=True)] if every else ()
        joined = tuple(tuple(text for some in label for text in some) for label in texts)
        return Embeddings.from_raw(sums / sizes[:, None], joined or None)
    turns = starts[:, None] + np.arange(widest) % sizes[:, None]
    return embeddings.select_rows(turns.ravel())
