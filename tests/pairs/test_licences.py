"""Licences by name: what is one licence, and above all what is not; masks by them and by expressions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.anchorset_sets import pairs

from asif.anchorset import NO_FILTER, PairFilter
from asif.errors import NotFound, UsageError
from asif.pairs.licences import Licence

BY = [
    "cc-by",
    "CC BY 4.0",
    "cc_by_4.0",
    " CC-BY ",
    "CC-BY-4.0",
    "ccby",
    "CC BY 4",
    "cc-by-3.0-us",
    "CC BY 2.0 UK",
    "CC BY 4.0 International",
    "https://creativecommons.org/licenses/by/4.0/",
    "http://www.creativecommons.org/licenses/by/2.0",
    "creativecommons.org/licenses/by/3.0/de/deed.de",
    "https://creativecommons.org/licenses/by/4.0/legalcode",
]
ZERO = [
    "cc0",
    "CC0-1.0",
    "CC0 1.0",
    "cc-zero",
    "CC Zero",
    "cc-0",
    "https://creativecommons.org/publicdomain/zero/1.0/",
    "http://creativecommons.org/publicdomain/zero/1.0/deed.en",
]
NEITHER = [
    "CC-BY-NC-4.0",
    "cc by sa",
    "cc-by-nc-nd",
    "CC-BY-ND-2.0",
    "cc-by-4.0-nc",
    "cc-by-nc-nd-sa",
    "cc-by-sa-nd-nc",
    "CC BY 4.0 but not for training",
    "not cc-by",
    "by",
    "cc",
    "",
    "CC BY (share alike)",
    "cc-by-nc-4.0-us",
    "https://creativecommons.org/licenses/by-nc/4.0/",
    "https://creativecommons.org/licenses/by-nc-sa/3.0/us/",
    "https://creativecommons.org/licenses/by/4.0/?no",
    "https://evil.org/creativecommons.org/licenses/by/4.0/",
    "https://creativecommons.org/publicdomain/mark/1.0/",
    "public domain",
    "cc-by-sa",
    "unknown",
    "cc00",
]


def test_names_of_two_licences() -> None:
    by, zero = Licence.read("cc-by"), Licence.read("cc0")
    for names, mine, other in ((BY, by, zero), (ZERO, zero, by)):
        for name in names:
            assert mine.covers(Licence.read(name)) and Licence.read(name).known, name
            assert not other.covers(Licence.read(name)), name
    for name in NEITHER:
        assert not by.covers(Licence.read(name)) and not zero.covers(Licence.read(name)), name


def test_a_version_counts_where_it_is_asked_for() -> None:
    asked = Licence.read("CC-BY-4.0")
    assert asked.covers(Licence.read("cc by 4.0")) and asked.covers(Licence.read("CC-BY-4"))
    assert not asked.covers(Licence.read("CC-BY-3.0")) and not asked.covers(Licence.read("CC-BY"))
    for other in (("mit", "MIT-0"), ("gpl", "GPL-3.0"), ("GPL-2.0", "GPL-3.0"), ("bsd", "BSD-3-Clause")):
        assert not Licence.read(other[0]).covers(Licence.read(other[1]))
    assert Licence.read("apache 2.0").covers(Licence.read("Apache-2.0"))


@given(
    st.lists(st.sampled_from(["nc", "nd", "sa", "us", "4.0", "3.0", "by", "-", "international"]), max_size=5),
    st.sampled_from(["-", " ", "_"]),
)
def test_no_further_condition_is_ever_lost(words: list[str], blank: str) -> None:
    found = Licence.read(blank.join(["CC", "BY", *words]))
    if {"nc", "nd", "sa"} & set(words):
        assert not Licence.read("cc-by").covers(found)
    for word in ("nc", "nd", "sa"):
        assert (word in words) == (word in found.family.split("-"))


def test_reading_a_name_again_changes_nothing() -> None:
    for name in BY + ZERO + NEITHER[:12]:
        assert Licence.read(str(Licence.read(name))) == Licence.read(name)


def test_masks_let_through_what_all_conditions_say() -> None:
    every = pairs(60)
    odd = PairFilter.of(licences=["CC BY"])
    assert [pair.id for pair in every if odd.predicate()(pair)] == [pair.id for pair in every if pair.licence]
    sourced = PairFilter.of("source like 'source %'")
    both, none = sourced & odd, sourced & PairFilter.of(licences=["cc0"])
    assert (
        not any(map(both.predicate(), every))
        and any(map(sourced.predicate(), every))
        and not any(map(none.predicate(), every))
    )
    assert (bool(NO_FILTER), bool(odd), NO_FILTER & odd) == (False, True, odd)
    assert all(map(NO_FILTER.predicate(), every))
    assert str(both) == "(source like 'source %') and licence is cc-by"
    assert both.as_dict() == {"where": "source like 'source %'", "licences": ["cc-by"]}
    assert (PairFilter.of("id = 'a'") & PairFilter.of("id = 'b'")).as_dict() == {"where": "(id = 'a') and (id = 'b')"}
    assert PairFilter.of(licences=["cc0", "CC0", " "]) == PairFilter.of(licences=["CC0"])


@pytest.mark.parametrize(
    "given", [{"where": "nonsense"}, {"licences": []}, {"licences": ["", " "]}, {"licences": "cc0"}]
)
def test_masks_that_make_no_sense(given: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        PairFilter.of(**given)  # type: ignore[arg-type]


def test_unknown_licences_are_named_with_those_that_there_are() -> None:
    counts = Counter({"CC-BY-4.0": 1200, "own terms": 7, None: 3})
    for names in (["cc-by"], ["cc-by", "cc0"], ["own terms", "cc-by-nc"], ["Own Terms"]):
        PairFilter.of(licences=names).check("toy@1", counts)
    for names, missing in (
        (["cc0"], "cc0"),
        (["cc-by", "ccc-by"], "ccc-by"),
        (["cc-by-nc", "cc-by-3.0"], "cc-by-nc, cc-by-3.0"),
    ):
        with pytest.raises(NotFound) as caught:
            PairFilter.of(licences=names).check("toy@1", counts)
        assert caught.value.came == f"no pair of toy@1 has the licence {missing}"
        assert caught.value.expected == "licences that it has: CC-BY-4.0 (1,200), own terms (7), none given (3)"
