"""What text encoders cannot read: texts beyond their limit of tokens, and scripts outside their vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from asif.encoders.protocol import TextEncoder, TokenizedText
from asif.vectors import Fingerprint

_SPECIAL_TOKENS = 4
_WORD_MARKS = "Ġ▁Ċ#"
_MOST_ENGLISH = 0.25
"""Share of an English vocabulary that may have other characters than ASCII: 0.05 in BERT's, 0.2 in T5's."""


def find_token_limit(fingerprint: Fingerprint) -> int | None:
    """Return how many tokens of a text an encoder reads, of the parts of a joined one the fewest.

    None if its fingerprint does not tell.
    """
    return min((limit for part in fingerprint.parts if (limit := _read_token_limit(part)) is not None), default=None)


def _read_token_limit(fingerprint: Fingerprint) -> int | None:
    """Return the limit of one encoder."""
    tokenizer = fingerprint.fields.get("tokenizer")
    limit = fingerprint.fields.get("max_tokens")
    if limit is None and isinstance(tokenizer, Mapping):
        limit = tokenizer.get("context")
    return limit if isinstance(limit, int) else None


def find_long_texts(fingerprint: Fingerprint, texts: Iterable[str]) -> list[str]:
    """Return the distinct texts that are long enough to be cut, by a part of a joined encoder at least.

    A token is a byte or more.
    """
    rooms = [
        limit - _SPECIAL_TOKENS - len(str(part.fields.get("prompt") or "").encode())
        for part in fingerprint.parts
        if (limit := _read_token_limit(part)) is not None
    ]
    return [text for text in dict.fromkeys(texts) if len(text.encode()) >= min(rooms)] if rooms else []


def tokenize_long_texts(encoder: TextEncoder, texts: Iterable[str]) -> dict[str, TokenizedText]:
    """Return what an encoder reads of the texts that are long enough to be cut."""
    long = find_long_texts(encoder.fingerprint, texts)
    return dict(zip(long, encoder.tokenize(long), strict=True)) if long else {}


def count_cut_texts(encoder: TextEncoder, texts: Iterable[str]) -> int:
    """Count the distinct texts of which an encoder does not read the end."""
    return sum(tokenized.is_cut for tokenized in tokenize_long_texts(encoder, texts).values())


def describe_cut(cut: int, total: int, what: str, spec: str, fingerprint: Fingerprint) -> str:
    """Describe how many texts are cut, for a person."""
    limit = find_token_limit(fingerprint)
    return f"{cut:,} of {total:,} {what} are longer than the {limit} tokens that {spec} reads: their ends are cut off"


def has_english_vocabulary(tokens: Iterable[str]) -> bool:
    """Tell whether a vocabulary is one of English: few of its tokens have other characters than ASCII.

    >>> has_english_vocabulary(["dog", "##s", "Ġcat", "é"]), has_english_vocabulary(["dog", "собака", "▁Hund", "犬"])
    (True, False)
    """
    words = [token.strip(_WORD_MARKS) for token in tokens]
    return sum(not word.isascii() for word in words) <= _MOST_ENGLISH * len(words)


def is_in_another_script(text: str) -> bool:
    """Tell whether most letters of a text are not Latin.

    >>> [is_in_another_script(text) for text in ("собака", "犬", "dog 犬", "Käse", "β-carotene", "3")]
    [True, True, False, False, False, False]
    """
    letters = [character for character in text if character.isalpha()]
    return 2 * sum("LATIN" not in unicodedata.name(letter, "") for letter in letters) > len(letters)
