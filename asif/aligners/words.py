"""Words of texts as vectors: a vocabulary counted from the captions of anchors, and unit tf-idf rows over it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.vectors import FitArrays, Float64

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_WORDS = 4_096
"""The largest vocabulary: the time of a fit grows with its cube."""
_FEW_PAIRS = 1_000
_MIN_CAPTIONS = (2, 8)  # that have a word of the vocabulary: of few pairs, and of more
_ENDINGS = ("ing", "ies", "es", "s", "ed")
_MIN_STEM = 3  # letters
_ASCII_LETTERS = re.compile("[a-z]+")
_UNSPACED = re.compile(  # Thai, Lao, Myanmar, Khmer, kana and Chinese characters: no spaces between words
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)


@dataclass(frozen=True)
class Vocabulary:
    """Hold words in alphabetical order, and their weights [v]: log(captions / captions with the word)."""

    words: tuple[str, ...]
    weights: Float64

    @classmethod
    def count(cls, captions: Iterable[Sequence[str]], images: int | None = None) -> Vocabulary:
        """Count the words of the captions of each anchor; `images` are those of the anchors, if some share one.

        A word is in at least 2 captions, from 1,001 images on in 8, and not in all of them. Of more than 4,096 words
        the most frequent are used, of equally frequent ones the first in the alphabet. The order of anchors is of no
        consequence.

        >>> Vocabulary.count([("a dog runs", "the dog"), ("a dog", "a cat running")]).words
        ('a', 'dog')
        """
        anchors = texts = 0
        counts: Counter[str] = Counter()
        for some in captions:
            anchors, texts = anchors + 1, texts + len(some)
            counts.update(chain.from_iterable(map(find_words, some)))
        fewest = _MIN_CAPTIONS[(images or anchors) > _FEW_PAIRS]
        usable = [(-times, word) for word, times in counts.items() if fewest <= times < texts]
        words = tuple(sorted(word for _, word in sorted(usable)[:MOST_WORDS]))
        return cls(words, np.log(texts / np.array([counts[word] for word in words], np.float64)))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def represent(self, texts: Sequence[Sequence[str]]) -> csr_array:
        """Return for each row the mean of its texts' unit tf-idf rows [n, v], where each word of a text counts once.

        A text without a word of the vocabulary is a row of zeros.
        """
        from scipy.sparse import csr_array

        places = self._places
        found = [[places[word] for word in find_words(text) if word in places] for row in texts for text in row]
        sizes = np.array([len(some) for some in found], np.int64)
        columns = np.array(list(chain.from_iterable(found)), np.int64)
        owners = np.repeat(np.arange(len(found)), sizes)
        order = np.lexsort((columns, owners))  # sums of squares do not depend on the order of words
        columns, weights = columns[order], self.weights[columns[order]]
        counts = np.array([len(row) for row in texts], np.int64)  # texts of each row
        squares = np.bincount(owners, np.square(weights), len(found))
        values = weights / (np.sqrt(squares) * np.repeat(counts, counts))[owners]
        ends = np.concatenate([[0], np.cumsum(sizes)])[np.concatenate([[0], np.cumsum(counts)])]
        rows = csr_array((values, columns, ends), (len(texts), len(self)))
        rows.sum_duplicates()
        return rows

    def as_arrays(self) -> FitArrays:
        """Return the words, as the bytes of their UTF-8 in lines, and the weights, as named arrays of floats."""
        lines = "\n".join(self.words).encode()
        return {"words": np.frombuffer(lines, np.uint8).astype(np.float32), "word_weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> Vocabulary:
        """Read what `as_arrays` wrote; raises KeyError if something is missing."""
        lines = arrays["words"].astype(np.uint8).tobytes().decode()
        return cls(tuple(lines.split("\n")) if lines else (), np.array(arrays["word_weights"]))


def find_words(text: str) -> frozenset[str]:
    """Find the words of a text: runs of letters in lower case, without endings; digits and marks separate them.

    Where a script has no spaces between words, pairs of neighbouring characters take their place.

    >>> sorted(find_words("Two DOGS chasing 3 puppies' toys"))
    ['chas', 'dog', 'pupp', 'toy', 'two']
    >>> sorted(find_words("白い猫と犬"))
    ['い猫', 'と犬', '猫と', '白い']
    """
    if text.isascii():
        runs = _ASCII_LETTERS.findall(text.lower())
    else:
        runs = _compile_letters().findall(unicodedata.normalize("NFKC", text).lower())
    return frozenset(chain.from_iterable(map(_split_run, runs)))


@lru_cache(maxsize=1 << 16)
def _split_run(run: str) -> tuple[str, ...]:
    """Split a run of letters into words, and into pairs of characters where it has no spaces."""
    if not _UNSPACED.search(run):
        return (_cut_ending(run),)
    words = [_cut_ending(word) for word in _UNSPACED.split(run) if word]
    for part in _UNSPACED.findall(run):
        words += [part[at : at + 2] for at in range(max(1, len(part) - 1))]
    return tuple(words)


def _cut_ending(word: str) -> str:
    """Cut the first ending that leaves three letters.

    >>> [_cut_ending(word) for word in ("running", "puppies", "sing", "dress")]
    ['runn', 'pupp', 'sing', 'dres']
    """
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) >= _MIN_STEM + len(ending):
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=1)
def _compile_letters() -> Any:
    """Compile the pattern of a run of letters, with the marks that scripts such as Devanagari write above and below."""
    marks = [chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"]
    return re.compile(f"[^\\W\\d_](?:[^\\W\\d_]|[{''.join(marks)}])*")
