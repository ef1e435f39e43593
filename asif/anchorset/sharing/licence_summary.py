"""What is told to others with a set: from which sources its pairs are, and under which licences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from asif.anchorset.format.anchor_set import load_pairs
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.sharing.bundle import Parcel, path_of

_CC_URL = re.compile(r"https?://creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)(/.*)?", re.ASCII)
_CC = re.compile(r"cc-by(-nc)?(-sa)?-[1-4]\.[05]", re.ASCII)
_OTHERS = ("cc0-1.0", "pddl", "odc-by", "odbl", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
_SAME = {
    "cc0": "cc0-1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "cc0-1.0",
    "odc-by-1.0": "odc-by",
    "odbl-1.0": "odbl",
    "pddl-1.0": "pddl",
    "apache-license-2.0": "apache-2.0",
}


@dataclass(frozen=True)
class Contents:
    """Count pairs by (source, licence), None where a pair does not say, and those with a URL."""

    pairs: Mapping[tuple[str | None, str | None], int]
    urls: int

    @property
    def licences(self) -> dict[str | None, int]:
        """Count pairs by licence, the most frequent first."""
        counts: Counter[str | None] = Counter()
        for (_, licence), count in self.pairs.items():
            counts[licence] += count
        return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0] or "")))

    @property
    def unlicensed(self) -> int:
        """Count the pairs without a licence."""
        return self.licences.get(None, 0)

    @property
    def doubtful(self) -> dict[str, int]:
        """Count pairs by those licences that asif does not know to allow passing them on."""
        return {name: count for name, count in self.licences.items() if name is not None and licence_id(name) is None}


def contents(parcel: Parcel) -> Contents:
    """Look through all pairs of a parcel; memory: one block's. Raises IntegrityError."""
    counts: Counter[tuple[str | None, str | None]] = Counter()
    urls = 0
    for entry in parcel.manifest.blocks:
        place = parcel.places[path_of("pairs", entry.pairs.sha256)]
        for pair in load_pairs(SetFolder(place.parents[1], None), entry):
            counts[pair.source or None, (pair.licence or "").strip() or None] += 1
            urls += pair.url is not None
    return Contents(counts, urls)


def licence_id(text: str) -> str | None:
    """Return the usual identifier of a licence that allows passing pairs on; None for any other text.

    Those that forbid commercial use are among them, those that forbid derivatives are not.

    >>> licence_id("CC BY-SA 4.0"), licence_id("https://creativecommons.org/licenses/by-nc/2.0/"), licence_id("cc0")
    ('cc-by-sa-4.0', 'cc-by-nc-2.0', 'cc0-1.0')
    >>> licence_id("CC-BY-ND-4.0"), licence_id("all rights reserved")
    (None, None)
    """
    name = re.sub(r"[\s_]+", "-", text.strip().lower())
    by_url = _CC_URL.fullmatch(name)
    name = f"cc-{by_url[1]}-{by_url[2]}" if by_url else _SAME.get(name, name)
    return name if name in _OTHERS or _CC.fullmatch(name) else None
