"""Count the pairs of a bundle by source and licence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from asif.anchorset.format.content import load_pair_table
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.sharing.bundle import Bundle, make_bundle_path

_CC_URL = re.compile(r"https?://creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)(/.*)?", re.ASCII)
_CC = re.compile(r"cc-by(-nc)?(-sa)?-[1-4]\.[05]", re.ASCII)
_OPEN_LICENCES = ("cc0-1.0", "pddl", "odc-by", "odbl", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
_LICENCE_SYNONYMS = {
    "cc0": "cc0-1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "cc0-1.0",
    "odc-by-1.0": "odc-by",
    "odbl-1.0": "odbl",
    "pddl-1.0": "pddl",
    "apache-license-2.0": "apache-2.0",
}


@dataclass(frozen=True)
class LicenceSummary:
    """Hold the number of pairs by (source, licence), None if a pair has none, and of those with a URL."""

    pairs: Mapping[tuple[str | None, str | None], int]
    urls: int

    @property
    def by_licence(self) -> dict[str | None, int]:
        """Count pairs by licence, the most frequent first."""
        counts: Counter[str | None] = Counter()
        for (_, licence), count in self.pairs.items():
            counts[licence] += count
        return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0] or "")))

    @property
    def unlicensed(self) -> int:
        """Count the pairs without a licence."""
        return self.by_licence.get(None, 0)

    @property
    def unrecognised(self) -> dict[str, int]:
        """Count pairs by licence, for licences that are not known to allow redistribution."""
        return {
            name: count
            for name, count in self.by_licence.items()
            if name is not None and find_open_licence_id(name) is None
        }


def summarise_licences(bundle: Bundle) -> LicenceSummary:
    """Read all pairs of a bundle; memory: those of one block. Raises IntegrityError."""
    counts: Counter[tuple[str | None, str | None]] = Counter()
    urls = 0
    for entry in bundle.manifest.blocks:
        table = bundle.locations[make_bundle_path("pairs", entry.pairs.sha256)]
        for pair in load_pair_table(SetFolder(table.parents[1], None), entry):
            counts[pair.source or None, (pair.licence or "").strip() or None] += 1
            urls += pair.url is not None
    return LicenceSummary(counts, urls)


def find_open_licence_id(text: str) -> str | None:
    """Return the SPDX-like identifier of a licence that allows redistribution; None for any other text.

    Licences that forbid commercial use are included, those that forbid derivatives are not.

    >>> find_open_licence_id("CC BY-SA 4.0"), find_open_licence_id("cc0")
    ('cc-by-sa-4.0', 'cc0-1.0')
    >>> find_open_licence_id("https://creativecommons.org/licenses/by-nc/2.0/")
    'cc-by-nc-2.0'
    >>> find_open_licence_id("CC-BY-ND-4.0"), find_open_licence_id("all rights reserved")
    (None, None)
    """
    name = re.sub(r"[\s_]+", "-", text.strip().lower())
    by_url = _CC_URL.fullmatch(name)
    name = f"cc-{by_url[1]}-{by_url[2]}" if by_url else _LICENCE_SYNONYMS.get(name, name)
    return name if name in _OPEN_LICENCES or _CC.fullmatch(name) else None
