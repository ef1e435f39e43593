"""Tokens of texts without torch: a tokenizer.json read by the library tokenizers. The door to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders.protocol import TokenizedText
from asif.errors import InputRefused, MissingDependency, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class SubwordTokenizer:
    """Turn texts into the token ids that a sentence-transformers model reads of them.

    `content` is a tokenizer.json, whose own truncation and padding are replaced: a text keeps its first `max_tokens`
    tokens, start and end marks included, or all with None. `prompt` comes before every text. sentence-transformers
    before 5.4 strips texts, and lowercases them for some models: `strip` and `lowercase` do the same.
    Safe to use from several threads.
    """

    def __init__(
        self,
        content: str,
        max_tokens: int | None,
        prompt: str = "",
        *,
        strip: bool = False,
        lowercase: bool = False,
    ) -> None:
        self._tokenizer = read_tokenizer(content)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if max_tokens is not None:
            self._tokenizer.enable_truncation(max_tokens)
        self._prompt, self._strip, self._lowercase = prompt, strip, lowercase

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of each token that the tokenizer knows, added ones included."""
        known: Mapping[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return known

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return what the model reads of each text; raises InputRefused for one that is not Unicode."""
        read = [self._change(text) for text in texts]
        try:
            encodings = self._tokenizer.encode_batch(read)
        except (TypeError, UnicodeError):
            raise _refuse_surrogates(texts) from None
        return [TokenizedText(tuple(encoding.ids), is_cut=bool(encoding.overflowing)) for encoding in encodings]

    def _change(self, text: str) -> str:
        whole = self._prompt + text
        if self._strip:
            whole = whole.strip()
        return whole.lower() if self._lowercase else whole


def stack_tokens(texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
    """Return the inputs of a transformer [n, t] for n texts of t tokens each, by name.

    >>> inputs = stack_tokens([TokenizedText((101, 7, 102), is_cut=False)] * 2)
    >>> {name: values[1].tolist() for name, values in inputs.items()}
    {'input_ids': [101, 7, 102], 'attention_mask': [1, 1, 1], 'token_type_ids': [0, 0, 0]}
    """
    ids = np.array([text.ids for text in texts], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def serialise_tokenizer(tokenizer: Any) -> str:
    """Return the tokenizer.json of a tokenizer of transformers, from which SubwordTokenizer gives equal ids.

    Its truncation and padding, which calls change, are left out. Raises UsageError for a tokenizer that is not of
    the library tokenizers, cuts the beginnings of texts, or numbers the parts of one text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise _refuse_tokenizer(tokenizer, "is written in Python")
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise _refuse_tokenizer(tokenizer, "cuts the beginnings of texts")
    copy = read_tokenizer(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    if any(copy.encode("a").type_ids):
        raise _refuse_tokenizer(tokenizer, "gives other token types than 0")
    content: str = copy.to_str()
    return content


def read_tokenizer(content: str) -> Tokenizer:
    """Read a tokenizer.json; raises InputRefused if it is none, MissingDependency without the library."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependency(
            f"tokenizers cannot be imported ({error})", "tokenizers", "pip install tokenizers"
        ) from error
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library raises plain exceptions
        raise InputRefused(
            f"a tokenizer that cannot be read ({str(error)[:200]})",
            "the text of a tokenizer.json",
            "export the encoder again",
        ) from error


def _refuse_surrogates(texts: Sequence[str]) -> InputRefused:
    """Return the error for texts one of which has half of a character."""
    broken = next((text for text in texts if not _is_unicode(text)), texts[0])
    return InputRefused(
        f"the text {broken[:60]!r}, which has half of a character in it",
        "texts that can be written as UTF-8",
        "correct or remove it",
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_tokenizer(tokenizer: Any, why: str) -> UsageError:
    return UsageError(
        f"a {type(tokenizer).__name__}, which {why}",
        "a tokenizer of the library tokenizers that cuts the ends of texts",
        "choose another text encoder, or --backend torch",
    )
