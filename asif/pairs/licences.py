"""Compare licences by name: whether a pair's licence is the required one. In doubt it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARTS = r"by(?:-(?:nc|nd|sa)){0,2}|zero|pdm"
_PORT = r"(?!nc|nd|sa)(?:[a-z]{2}|igo|international|unported|generic)"
_NAME = re.compile(rf"cc-?(?P<family>{_PARTS}|0)(?:-v?(?P<version>\d+(?:\.\d+)?)(?:-{_PORT})?)?")
_URL = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/"
    r"(?:licenses/(?P<code>[a-z-]+)|publicdomain/(?P<domain>zero|mark))/(?P<version>\d+\.\d+)"
    r"(?:/(?!deed|legalcode)[a-z]{2,3})?(?:/(?:deed|legalcode)[a-z._-]*)?/?"
)
_SHORT = {"zero": "cc0", "0": "cc0", "mark": "cc-pdm"}


@dataclass(frozen=True)
class Licence:
    """Hold a licence's name without its version, and the version if there is one.

    Case, blanks and underscores do not matter. For Creative Commons licences (`known`), versions, ported versions and
    URLs at creativecommons.org are parsed; any other name is taken as it is, so that MIT-0 is not MIT, nor GPL-2.0
    GPL-3.0.

    >>> [str(Licence.read(text)) for text in ("CC BY 4.0", "https://creativecommons.org/licenses/by-sa/3.0/de/")]
    ['cc-by-4.0', 'cc-by-sa-3.0']
    >>> [str(Licence.read(text)) for text in ("CC0-1.0", "cc_zero", "MIT-0", "CC-BY-4.0 or worse")]
    ['cc0-1.0', 'cc0', 'mit-0', 'cc-by-4.0-or-worse']
    """

    family: str
    version: str | None = None
    known: bool = False

    @classmethod
    def read(cls, text: str) -> Licence:
        """Parse a name in any spelling."""
        name = re.sub(r"[\s_-]+", "-", text.strip().casefold()).strip("-")
        found = _URL.fullmatch(name)
        if found is not None:
            code = found["code"]
            if code is not None and re.fullmatch(_PARTS, code) is None:
                return cls(name)
            return cls(f"cc-{code}" if code is not None else _SHORT[found["domain"]], found["version"], True)
        found = _NAME.fullmatch(name)
        if found is None:
            return cls(name)
        version = found["version"]
        whole = f"{version}.0" if version is not None and "." not in version else version
        return cls(_SHORT.get(found["family"], f"cc-{found['family']}"), whole, True)

    def covers(self, other: Licence) -> bool:
        """Tell whether this name means that licence: the same family, and the same version if this one names one.

        >>> required = Licence.read("cc-by")
        >>> [required.covers(Licence.read(text)) for text in ("CC-BY-4.0", "cc by", "CC-BY-NC-4.0", "CC-BY-SA-4.0")]
        [True, True, False, False]
        >>> Licence.read("CC-BY-4.0").covers(Licence.read("CC-BY-3.0"))
        False
        """
        return self.family == other.family and self.version in (None, other.version)

    def __str__(self) -> str:
        return self.family if self.version is None else f"{self.family}-{self.version}"
