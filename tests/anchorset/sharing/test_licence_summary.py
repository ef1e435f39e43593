"""Licences that allow redistribution."""

from __future__ import annotations

import pytest

from asif.anchorset.sharing.licence_summary import find_open_licence_id


@pytest.mark.parametrize(
    ("licence", "known"),
    [
        ("CC-BY-4.0", "cc-by-4.0"),
        ("cc by-nc-sa 2.0", "cc-by-nc-sa-2.0"),
        ("https://creativecommons.org/licenses/by/2.0/", "cc-by-2.0"),
        ("http://creativecommons.org/licenses/by-nc-nd/2.0/", None),
        ("CC0", "cc0-1.0"),
        ("Apache-2.0", "apache-2.0"),
        ("CC-BY-SA", None),
        ("CC-BY-4.0 but ask me", None),
        ("", None),
        ("all rights reserved", None),
    ],
)
def test_licences_that_allow_passing_on(licence: str, known: str | None) -> None:
    assert find_open_licence_id(licence) == known
