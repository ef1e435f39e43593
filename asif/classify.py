"""Labels for images: labels become prompts, prompts become text representations, the best one wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from asif.aligners import Fitted, TemplateMode
from asif.compare import Candidates
from asif.errors import UsageError
from asif.kernels import Engine
from asif.vectors import Embeddings, joined

TEMPLATES = ("{}",)
MAX_LABEL = 10_000
PROMPT_ROWS = 4096


@dataclass(frozen=True)
class Labels:
    """Hold the question: which labels, through which templates, combined how.

    `mean` averages the unit embeddings of a label's prompts and renormalises; `max` lets the best prompt count.
    Raises UsageError for no, empty, blank or repeated labels, and templates without a place for the label (`{}` or
    `{c}`); for both, if they hold NUL characters or bytes that are no text, or more than 10,000 characters.

    >>> Labels(("cat", "dog"), ("a photo of a {}.", "{c}")).prompts()
    ['a photo of a cat.', 'cat', 'a photo of a dog.', 'dog']
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

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_templates(self.templates)
        if self.mode not in ("mean", "max"):
            raise UsageError(f"the template mode is {self.mode!r}", "mean or max", "pass --template-mode mean")

    def prompts(self) -> list[str]:
        """Return every label in every template, label by label."""
        return [fill(template, label) for label in self.labels for template in self.templates]


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
    labels: Labels, encode: Callable[[Sequence[str]], Embeddings], fitted: Fitted, engine: Engine = "auto"
) -> Candidates:
    """Encode the prompts and represent them over the anchors, some thousand at a time."""
    prompts, per_label = labels.prompts(), len(labels.templates)
    step = max(1, PROMPT_ROWS // per_label) * per_label
    parts = []
    for start in range(0, len(prompts), step):
        embeddings = encode(prompts[start : start + step])
        if labels.mode == "mean" and per_label > 1:
            grouped = embeddings.values.reshape(-1, per_label, embeddings.dim)
            embeddings = Embeddings.from_raw(grouped.astype(np.float64).mean(axis=1))
        parts.append(fitted.represent("text", embeddings, engine))
    return Candidates(joined(parts), per_label if labels.mode == "max" else 1)
