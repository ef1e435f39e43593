"""Labels for images: labels become prompts, prompts become text representations, the best one wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from asif.aligners import FittedAligner, TemplateMode
from asif.compare import Candidates
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.vectors import Embeddings, Int64, join_rows

TEMPLATES = ("{}",)
MAX_LABEL = 10_000
PROMPT_ROWS = 4096


@dataclass(frozen=True)
class Labels:
    """Hold the question: which labels, through which templates, combined how.

    `mean` averages the unit embeddings of a label's prompts and renormalises; `max` lets the best prompt count.
    Raises UsageError for no, empty, blank or repeated labels, and templates without a place for the label (`{}` or
    `{c}`); for both, if they hold NUL characters or bytes that are no text, or more than 10,000 characters. `names`
    are what stands in the prompts instead of each label, one or more, combined as templates are; () for the labels
    themselves.

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
    templates: tuple[str, ...] = TEMPLATES
    mode: TemplateMode = "mean"
    names: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.names:
            check_names(self.labels, self.names)
        check_templates(self.templates)
        if self.mode not in ("mean", "max"):
            raise UsageError(f"the template mode is {self.mode!r}", "mean or max", "pass --template-mode mean")

    def prompts(self) -> list[str]:
        """Return every label in every template, label by label and name by name."""
        return [prompt for label in self.by_label() for prompt in label]

    def by_label(self) -> list[list[str]]:
        """Return the prompts of each label."""
        names = self.names or [(label,) for label in self.labels]
        return [[fill(template, name) for name in some for template in self.templates] for some in names]


def fill(template: str, label: str) -> str:
    """Put a label in a template's place; braces in labels stay as they are."""
    return template.replace("{c}" if "{c}" in template else "{}", label)


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot be told apart or read."""
    if not labels:
        raise UsageError("there are no labels", "at least one label", 'pass --labels "cat,dog" or --labels-file FILE')
    for number, label in enumerate(labels, start=1):
        if not label.strip():
            raise UsageError(f"label {number} of {len(labels)} is blank", "a word or more", "remove it")
        check_text(label, f"label {number}", "give one label per line, or separate labels by commas")
    label, times = Counter(label.strip() for label in labels).most_common(1)[0]
    if times > 1:
        raise UsageError(f"the label {label!r} comes {times} times", "every label once", "remove the repetition")


def check_names(labels: Sequence[str], names: Sequence[Sequence[str]]) -> None:
    """Refuse names that do not go with the labels or cannot be read."""
    if len(names) != len(labels):
        raise UsageError(
            f"{len(names)} lists of names for {len(labels)} labels", "one for each", "give every label one"
        )
    for label, some in zip(labels, names, strict=True):
        if not some or not all(name.strip() for name in some):
            raise UsageError(f"the label {label!r} has a blank name, or none", "a word or more", "give it a name")
        for name in some:
            check_text(name, f"a name of {label!r}", "shorten it")


def check_text(text: str, what: str, shorter: str) -> None:
    """Refuse what no encoder should be given; `shorter` is the way out of too long a text."""
    if "\0" in text:
        raise UsageError(f"{what} contains a NUL character: {text[:40]!a}", "plain text", "remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{what} is not valid UTF-8: {text[:40]!a}", "UTF-8 text", "convert it to UTF-8")
    if len(text) > MAX_LABEL:
        raise UsageError(f"{what} has {len(text):,} characters: {text[:40]!a}…", f"at most {MAX_LABEL:,}", shorter)


def check_templates(templates: Sequence[str]) -> None:
    """Refuse templates in which a label has no place."""
    if not templates:
        raise UsageError("there are no templates", "at least one template", "pass --template '{}'")
    for template in templates:
        if "{}" not in template and "{c}" not in template:
            raise UsageError(
                f"the template {template[:80]!r} has no place for the label",
                "a text with {} or {c} in it",
                "pass for example --template 'a photo of a {}.'",
            )
        check_text(template, "a template", "shorten it")


def represent_labels(
    labels: Labels, encode: Callable[[Sequence[str]], Embeddings], fitted: FittedAligner, engine: KernelName = "auto"
) -> Candidates:
    """Encode the prompts and represent them over the anchors, some thousand at a time."""
    prompts = labels.by_label()
    widest = max(map(len, prompts))
    step = max(1, PROMPT_ROWS // widest)
    parts = []
    for start in range(0, len(prompts), step):
        some = prompts[start : start + step]
        embeddings = encode([prompt for label in some for prompt in label])
        if widest > 1:
            embeddings = combined(embeddings, np.array([len(label) for label in some]), widest, labels.mode)
        parts.append(fitted.represent("text", embeddings, engine))
    return Candidates(join_rows(parts), widest if labels.mode == "max" else 1)


def combined(embeddings: Embeddings, sizes: Int64, widest: int, mode: TemplateMode) -> Embeddings:
    """Combine the prompts of each label, `sizes` of them: their mean, or as many rows for each label as the widest has.

    For `max`, a label's prompts come again in turn until they are as many, which leaves the best of them the same.
    """
    starts = np.cumsum(sizes) - sizes
    if mode == "mean":
        sums = np.add.reduceat(embeddings.values, starts, axis=0, dtype=np.float64)
        return Embeddings.from_raw(sums / sizes[:, None])
    turns = starts[:, None] + np.arange(widest) % sizes[:, None]
    return Embeddings(embeddings.values[turns.ravel()])
