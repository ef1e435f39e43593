"""Check labels against their text encoder: equal once they are cut, too long, or in a script that it does not know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from asif.anchorset import OpenAnchors
from asif.classify import Labels
from asif.encoders.protocol import TokenizedText
from asif.encoders.text_limits import describe_cut, find_token_limit, is_in_another_script
from asif.engine.encoder_pool import EncoderPool
from asif.errors import UsageError


def check_labels(labels: Labels, anchors: OpenAnchors, encoders: EncoderPool) -> None:
    """Report, once each, labels that are cut, and labels of other scripts with an English encoder.

    Raises UsageError for labels that are numbers or marks of no label, and for labels that are equal in the tokens that
    the encoder reads.
    """
    labels.check_words()
    fingerprint, spec = anchors.fingerprint("text"), anchors.encoder_spec("text")
    limit, count = find_token_limit(fingerprint), len(labels.labels)
    if limit is None:
        return
    prompts = labels.prompts_by_label()
    tokenized = encoders.tokenize_long_texts([prompt for some in prompts for prompt in some], anchors)
    cut = {prompt for prompt, read in tokenized.items() if read.is_cut}
    if cut:
        _refuse_equal_labels(labels.labels, prompts, tokenized, f"the {limit} tokens that {spec} reads")
        number = sum(not cut.isdisjoint(some) for some in prompts)
        encoders.remark_once(describe_cut(number, count, "labels", spec, fingerprint))
    names = labels.names or [(label,) for label in labels.labels]
    foreign = [label for label, some in zip(labels.labels, names, strict=True) if any(map(is_in_another_script, some))]
    if foreign and encoders.load_text_encoder(anchors).is_english_only:
        encoders.remark_once(
            f"{len(foreign):,} of {count:,} labels, such as {foreign[0][:40]}, are in a script that {spec} hardly "
            "knows: their scores mean little; write them in English, or build anchors with a multilingual text encoder"
        )


def _refuse_equal_labels(
    labels: Sequence[str], prompts: Sequence[Sequence[str]], tokenized: Mapping[str, TokenizedText], read: str
) -> None:
    """Raise UsageError for labels whose prompts are equal, one by one, in the tokens that are read."""
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for at, some in enumerate(prompts):
        alike[tuple(tokenized[prompt].ids if prompt in tokenized else prompt for prompt in some)].append(at)
    for group in alike.values():
        is_cut = any(prompt in tokenized and tokenized[prompt].is_cut for at in group for prompt in prompts[at])
        if len(group) > 1 and is_cut:
            first, second = group[:2]
            raise UsageError(
                f"the labels {first + 1} and {second + 1}, {_shorten(labels[first])} and {_shorten(labels[second])}, "
                f"are equal in {read}",
                "labels that differ in that part of their prompts",
                "shorten them, or write first what tells them apart",
            )


def _shorten(label: str) -> str:
    return repr(label) if len(label) <= 60 else f"{label[:29]!r}…{label[-29:]!r}"
