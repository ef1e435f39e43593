"""The page of a search: what it shows of each query and result, pictures, and hostile text, which stays text."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from support.html_pages import HOSTILE, PageReader
from support.search_answers import ANCHORS, make_answer, make_evidence, make_item, make_pair, make_result

from asif.anchorset.format.pair_filter import PairFilter
from asif.engine.search.query import Query
from asif.engine.search.results import SearchAnswer
from asif.errors import BadImage
from asif.report.search.page import render_search_page
from asif.report.search.pictures import choose_pictures, list_shown_pairs

WEBP = b"RIFF\x00\x00\x00\x00WEBP"


def render(*answers: SearchAnswer, kind: Any = "image", thumbnail: Any = lambda row: WEBP, **options: Any) -> str:
    return render_search_page(answers, kind=kind, aligner="cca", thumbnail=thumbnail, **options)


def read_text(page: str) -> str:
    return " ".join("".join(PageReader(page).texts).split())


class ImageReader(PageReader):
    """Collect the attributes of each image and link."""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_startendtag(tag, attrs)
        self.found = [*getattr(self, "found", []), (tag, dict(attrs))]

    def list(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


# ---- what is shown


def test_a_query_says_what_was_searched_and_with_what() -> None:
    text = read_text(render(make_answer(make_result(0, 0.5, 0.0001), make_result(1, 0.25, 0.002))))
    assert "Search in photos gallery photos@3 (0123456789ab) · anchors coco@12 (fedcba987654)" in text
    assert "1,000 images searched, 1 above chance; compared through the anchors, by the aligner cca." in text


def test_the_filter_of_the_anchors_is_named() -> None:
    filtered = replace(ANCHORS, pair_filter=PairFilter.of("source = 'web'"))
    assert "anchors coco@12 (fedcba987654) where source = 'web'" in read_text(render(make_answer(anchors=filtered)))


def test_a_space_of_one_encoder_is_named() -> None:
    text = read_text(render(make_answer(make_result(0, 1.0, 0.0001), space="image")))
    assert "compared directly in the image space, by cosine; anchors have no part in it." in text
    assert "aligner" not in text and "Pairs behind" not in text and "add up" not in text


def test_results_are_cards_in_their_order() -> None:
    label = {"label": "dogs", "licence": "CC0", "source": "web", "captions": ("a dog", "a hound")}
    page = render(make_answer(make_result(4, 0.5, 0.0001, **label), make_result(2, -0.25, 0.5)))
    text = read_text(page)
    assert "0.5000 chance 0.01 % a/4.jpg /home/me/a/4.jpg Details" in text and "-0.2500 chance 50 % a/2.jpg" in text
    assert page.index("a/4.jpg") < page.index("a/2.jpg")
    for said in ("a hound", "dogs", "CC0", "web", "Chance alone would bring 0.10 of 1,000 items up to this score."):
        assert said in text


def test_results_within_chance_are_set_apart() -> None:
    above, below = make_result(0, 0.5, 0.000499), make_result(1, 0.25, 0.0005)
    text = read_text(render(make_answer(above, below)))
    assert text.index("a/0.jpg") < text.index("Within chance") < text.index("a/1.jpg")
    assert "Within chance" not in read_text(render(make_answer(above)))
    nothing = read_text(render(make_answer(below)))
    assert "none above chance" in nothing and "Nothing is above chance: it alone" in nothing
    assert "Nothing is above chance." in read_text(render(make_answer()))


def test_a_later_page_of_results_does_not_say_that_nothing_is_above_chance() -> None:
    text = read_text(render(make_answer(make_result(1, 0.25, 0.1), relevant=5)))
    assert "5 above chance" in text and "Nothing is above" not in text and "Within chance" in text


def test_several_queries_are_listed_with_links() -> None:
    unread = make_answer(query=Query.of(images=["/x/no.jpg"]), error=BadImage("a file that is cut", "a", "b"))
    combined = make_answer(query=Query.of(texts=["2:a kite"], items=["a/7.jpg"], minus=["snow"]), relevant=2)
    page = render(unread, combined)
    text = read_text(page)
    assert "/x/no.jpg no answer" in text and "The query has no answer: a file that is cut" in text
    assert "2:a kite + item a/7.jpg - snow 2 above chance" in text
    assert "2:a kite + item a/7.jpg - snow 1,000 images searched" in text
    links = [each["href"] for each in ImageReader(page).list("a")]
    assert links == ["#query-1", "#query-2"] and all(f'id="{link[1:]}"' in page for link in links if link)


def test_answers_over_other_versions_name_their_own() -> None:
    other = replace(ANCHORS, version="000013-aaaaaaaaaaaa", digest="a" * 64)
    text = read_text(render(make_answer(), make_answer(anchors=other)))
    assert "anchors coco@12 (fedcba987654)." in text and "anchors coco@13 (aaaaaaaaaaaa)." in text


# ---- pictures and texts


def test_pictures_are_inside_and_have_alternative_texts() -> None:
    page = render(
        make_answer(make_result(7, 0.5, 0.0001, captions=("a dog",)), make_result(8, 0.4, 0.0001)),
        thumbnail=lambda row: WEBP + bytes([row]),
    )
    images = ImageReader(page).list("img")
    assert [each["alt"] for each in images] == ["a dog", "a/8.jpg"]
    inside = [f"data:image/webp;base64,{base64.b64encode(WEBP + bytes([row])).decode()}" for row in (7, 8)]
    assert [each["src"] for each in images] == inside


def test_an_item_without_a_thumbnail_has_its_id_in_the_frame() -> None:
    page = render(make_answer(make_result(0, 0.5, 0.1)), thumbnail=lambda row: None)
    assert not ImageReader(page).list("img") and '<div class="picture missing"><code>a/0.jpg</code></div>' in page


def test_texts_are_shown_whole() -> None:
    words = "A long story. " * 100
    page = render(make_answer(make_result(0, 0.5, 0.1, captions=(words,))), kind="text")
    assert words in page and "1,000 texts searched" in page and not ImageReader(page).list("img")


# ---- reasons


def test_pairs_behind_a_score_are_named() -> None:
    pairs = (
        make_pair("p0", captions=("a dog runs",), source="web", licence="CC-BY-4.0", url="https://a.example/0.jpg"),
        make_pair("p1", captions=("a", "b", "c"), url="ftp://a.example/1.jpg"),
    )
    evidence = replace(make_evidence([0.2, -0.05], 0.1, 4000, hubness=0.05), records=pairs)
    page = render(make_answer(make_result(0, 0.2, 0.0001, evidence)))
    text = read_text(page)
    assert "a dog runs p0 · web · CC-BY-4.0 https://a.example/0.jpg 0.2000" in text
    assert "a p1 · 2 more captions ftp://a.example/1.jpg -0.0500" in text
    assert "and 4,000 further pairs 0.1000 all pairs 0.2500" in text and "Reasons" in text and "add up" in text
    assert "to all kinds of queries -0.0500 score 0.2000" in text and "By part" not in text
    assert [each["href"] for each in ImageReader(page).list("a")] == ["https://a.example/0.jpg"]
    bars = [each for each in ImageReader(page).list("i") if each["class"] in ("first", "second")]
    assert [(each["class"], each["style"]) for each in bars] == [("first", "width:100.0%"), ("second", "width:25.0%")]


def test_a_combined_query_is_split_by_its_parts() -> None:
    query = Query.of(texts=["2:a kite", "snow"], minus=["a child"])
    evidence = make_evidence([0.2], 0.1, 1, parts=(0.25, 0.1, -0.05))
    text = read_text(render(make_answer(make_result(0, 0.3, 0.0001, evidence), query=query)))
    assert "By part of the query 2:a kite 0.2500 snow 0.1000 - a child -0.0500 all pairs 0.3000" in text
    assert "and 1 further pair 0.1000 score 0.3000" in text  # nothing is taken off


def test_pictures_of_pairs_are_in_the_page_once() -> None:
    first, second, bare = (
        make_pair(name, captions=words, image_sha256=name)
        for name, words in (("a", ("a dog",)), ("b", ()), ("c", ("x",)))
    )
    evidence = [replace(make_evidence([0.2, 0.1]), records=records) for records in ((first, bare), (first, second))]
    results = [make_result(row, 0.3, 0.0001, each) for row, each in enumerate(evidence)]
    thumbnails = {"a": WEBP + b"a", "b": WEBP + b"b", "unnamed": WEBP + b"u"}
    page = render(make_answer(*results), thumbnail=lambda row: None, pair_thumbnails=thumbnails)
    read = ImageReader(page)
    inside = [f"data:image/webp;base64,{base64.b64encode(thumbnails[name]).decode()}" for name in ("a", "b")]
    assert [each["href"] for each in read.list("image")] == inside
    assert [each["id"] for each in read.list("symbol")] == ["pair-1", "pair-2"]
    assert [each["href"] for each in read.list("use")] == ["#pair-1", "#pair-1", "#pair-2"]
    shown = [each for each in read.list("svg") if each.get("role") == "img"]
    assert [each["aria-label"] for each in shown] == ["a dog", "a dog", "b"]
    plain = render(make_answer(*results), thumbnail=lambda row: None)
    assert not {"svg", "image", "use"} & set(ImageReader(plain).elements)


def test_pictures_of_pairs_are_bounded_in_number_and_bytes() -> None:
    pairs = tuple(make_pair(f"p{at}", image_sha256=f"{at}") for at in range(500))
    evidence = replace(make_evidence([0.1] * 500), records=pairs)
    answers = [make_answer(make_result(0, 50.0, 0.0001, evidence))] * 2
    assert [pair.id for pair in list_shown_pairs(answers)] == [f"p{at}" for at in range(400)]
    small = {f"{at}": WEBP for at in range(500)}
    assert list(choose_pictures(answers, small)) == [f"{at}" for at in range(400)]
    large = {f"{at}": bytes(300_000) for at in range(500)} | {"20": WEBP}
    chosen = choose_pictures(answers, large)
    assert list(chosen) == [*map(str, range(6)), "20"] and chosen["20"].name == "pair-7"


# ---- safety


def make_hostile() -> list[SearchAnswer]:
    """Make answers in which all names, captions and places are hostile text."""
    pair = make_pair(HOSTILE, captions=(HOSTILE, HOSTILE), source=HOSTILE, licence=HOSTILE, url=HOSTILE)
    evidence = replace(make_evidence([0.2, 0.1], 0.1, 5, parts=(0.1, 0.1, 0.1, 0.1)), records=(pair, pair))
    item = make_item(HOSTILE, captions=(HOSTILE,), uri=HOSTILE, label=HOSTILE, licence=HOSTILE, source=HOSTILE)
    results = [replace(make_result(row, 0.4, 0.001 * row, evidence), item=item) for row in range(3)]
    named = replace(ANCHORS, name=HOSTILE, version=HOSTILE, digest=HOSTILE, pair_filter=PairFilter.of("id = '<b>'"))
    query = Query.of(texts=[HOSTILE], images=[HOSTILE], items=[HOSTILE], minus=[HOSTILE])
    answer = make_answer(*results, query=query, gallery=named, anchors=named)
    return [answer, replace(answer, results=(), error=BadImage(HOSTILE, HOSTILE, HOSTILE))]


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("thumbnail", [lambda row: HOSTILE.encode(), lambda row: None])
def test_hostile_text_stays_text(kind: Any, thumbnail: Any) -> None:
    pictures = {"00": HOSTILE.encode()}
    page = render_search_page(
        make_hostile(), kind=kind, aligner=HOSTILE, thumbnail=thumbnail, pair_thumbnails=pictures, title=HOSTILE
    )
    read = ImageReader(page)
    assert "script" not in read.elements and "b" not in read.elements
    assert not any(name.startswith("on") for name, _ in read.attributes)
    links = [value or "" for name, value in read.attributes if name in ("src", "href")]
    assert all(link.startswith(("#query-", "#pair-", "data:image/webp;base64,")) for link in links)
    assert sum("evil.example" in text for text in read.texts) > 50


@pytest.mark.parametrize("url", ["javascript:alert(1)", "JaVaScRiPt://a.example/%0aalert(1)", "data:text/html,x"])
def test_only_addresses_of_the_web_are_links(url: str) -> None:
    evidence = replace(make_evidence([0.5]), records=(make_pair(url=url),))
    result = make_result(0, 0.5, 0.1, evidence, uri=url)
    assert not ImageReader(render(make_answer(result))).list("a")
    shown = "https://a.example/1.jpg"
    evidence = replace(evidence, records=(make_pair(url=shown),))
    read = ImageReader(render(make_answer(make_result(0, 0.5, 0.1, evidence, uri=shown))))
    assert [each["href"] for each in read.list("a")] == [shown, shown]


def test_passwords_are_not_shown() -> None:
    url = "https://me:secret@a.example/1.jpg?key=secret"
    evidence = replace(make_evidence([0.5]), records=(make_pair(url=url),))
    query = Query.of(images=[url], texts=["a dog"])
    page = render(make_answer(make_result(0, 0.5, 0.1, evidence, uri=url), query=query))
    assert "secret" not in page and "a.example/1.jpg" in page


def test_nothing_is_loaded_from_outside() -> None:
    page = render(make_answer(make_result(0, 0.5, 0.1, make_evidence([0.5]))))
    read = PageReader(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(read.elements)
    assert "url(" not in page and "@import" not in page and "http" not in page
