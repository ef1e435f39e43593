"""The page in a real browser: classification with its reasons, search, changes of anchors, faults, access."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.engine_sets import fake_image, fake_text
from support.galleries import build, write_files
from support.page_browser import launch_chromium, open_page, serve_on_port
from support.services import KEYS, draw_photo, make_config, make_grants, make_store

import asif.report
import asif.service
from asif.anchorset import read_receipt
from asif.engine import build_anchors, watcher

pytestmark = pytest.mark.slow

LABELS = ("a dog", "a cat", "a kite")
HOSTILE = '"><script>window.hacked=1</script><img src=x onerror=window.hacked=1>'


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
        patch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
        patch.setattr("asif.engine.build.load_image_encoder", lambda *_: fake_image())
        patch.setattr("asif.engine.build.load_text_encoder", lambda *_: fake_text())
        patch.setattr(watcher, "LOOK_SECONDS", 0.02)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, patched: None) -> Path:
    """Return a store with sets and the galleries `photos`, of eight images, and `many`, of thirty.

    The pairs of the set `own` have their photos in a folder; the gallery `texts` has three texts.
    """
    home = make_store(tmp_path_factory.mktemp("page") / "home")
    folder = home.parent / "many"
    write_files(folder, {f"{row:02}.png": draw_photo(row) for row in range(30)})
    build(folder, home, fake_image(), name="many", thumbnails=True)
    rows = [f"{row:02}.png,caption {row}" for row in range(30)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    build_anchors(folder, "own", home=home).anchors.close()
    build(write_texts(home.parent), home, fake_text(), name="texts", side="text")
    return home


def write_texts(folder: Path) -> Path:
    path = folder / "texts.txt"
    path.write_text(f"a dog on a beach\n{HOSTILE}\na cat\n")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(browser: Any, home: Path) -> Iterator[httpx.Client]:
    """Return a client of a service without keys."""
    with serve_on_port(
        make_config(home, anchors=("one", "two", "own"), galleries=("photos", "many", "texts"))
    ) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(browser: Any, patched: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Return a client of a service with a key for each role, over a store of its own."""
    home = make_store(tmp_path_factory.mktemp("guarded") / "home")
    with serve_on_port(make_config(home, grants=make_grants())) as client:
        yield client


@pytest.fixture
def page(browser: Any, service: httpx.Client) -> Iterator[Any]:
    """Return the page, which nothing may go wrong in."""
    with open_page(browser, str(service.base_url)) as watched:
        watched.page.locator("#version").wait_for()
        yield watched.page
        watched.check()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the paths of two photos."""
    folder = tmp_path_factory.mktemp("own")
    for seed in (101, 102):
        (folder / f"{seed}.png").write_bytes(draw_photo(seed))
    return [str(folder / f"{seed}.png") for seed in (101, 102)]


def classify(page: Any, photos: list[str], labels: str = ", ".join(LABELS)) -> None:
    page.set_input_files("#photos", photos)
    page.fill("#labels", labels)
    page.click("text=Classify >> nth=-1")
    page.locator(".ranking").nth(len(photos) - 1).wait_for()
    wait_for_status(page, "classify", "classified by")


def wait_for_status(page: Any, desk: str, text: str) -> None:
    place = "#edit" if desk == "edit" else f"#ask-{desk}"
    page.locator(f"{place} [role=status]", has_text=text).wait_for()


def read_ranking(page: Any, card: int = 0) -> list[tuple[str, str]]:
    """Return the labels of a photo with their scores, as shown."""
    rows = page.locator(".card").nth(card).locator(".ranking li")
    return [
        (row.locator(".label").inner_text(), row.locator(".figure").evaluate("each => each.firstChild.data"))
        for row in rows.all()
    ]


def to_number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def read_sum(table: Any) -> tuple[list[float], float]:
    """Return the figures of a score's reasons, which add up as they are shown, and their sum."""
    table.locator("tr.total").last.wait_for()
    figures = [
        [to_number(cell.evaluate("each => each.firstChild.data")) for cell in table.locator(f"{rows} td").all()]
        for rows in ("tr:not(.total)", "tr.total")
    ]
    parts, totals = figures
    assert sum(parts) == pytest.approx(totals[-1], abs=1e-9)
    return parts, totals[-1]


def ask(service: httpx.Client, route: str, photo: str | None = None, key: str | None = None, **request: Any) -> Any:
    """Return the first answer of the service."""
    files = {"request": (None, json.dumps(request))}
    if photo is not None:
        files["images"] = ("photo", Path(photo).read_bytes())  # type: ignore[assignment]
    answer = service.post(f"/v1/{route}", files=files, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def list_served(service: httpx.Client, name: str) -> dict[str, Any]:
    sets: list[dict[str, Any]] = service.get("/v1/anchors").json()["anchors"]
    return next(each for each in sets if each["name"] == name)


def open_part(page: Any, title: str) -> None:
    page.click(f"#edit summary:text-is('{title}')")


# ---- classification


def test_two_photos_get_the_labels_and_scores_of_the_service(
    page: Any, service: httpx.Client, photos: list[str]
) -> None:
    classify(page, photos, 'a dog, a cat\n"a kite"')
    for card, photo in enumerate(photos):
        expected = ask(service, "classify", photo, labels=LABELS)["predictions"]
        shown = read_ranking(page, card)
        assert [label for label, _ in shown] == [each["label"] for each in expected]
        assert [to_number(score) for _, score in shown] == pytest.approx([each["score"] for each in expected], abs=6e-5)
        widths = page.locator(".card").nth(card).locator(".bar").evaluate_all("all => all.map((x) => x.style.width)")
        largest = max(abs(each["score"]) for each in expected)
        assert [float(width.rstrip("%")) for width in widths] == pytest.approx(
            [100 * abs(each["score"]) / largest for each in expected], abs=0.1
        )
    assert page.locator(".card h3").all_inner_texts() == ["101.png", "102.png"]


def test_templates_are_used(page: Any, service: httpx.Client, photos: list[str]) -> None:
    page.click("text=Templates")
    page.fill("#templates", "a photo of {}\nan image of {}")
    classify(page, photos[:1])
    expected = ask(service, "classify", photos[0], labels=LABELS, templates=["a photo of {}", "an image of {}"])
    assert [to_number(score) for _, score in read_ranking(page)] == pytest.approx(
        [each["score"] for each in expected["predictions"]], abs=6e-5
    )


def test_reasons_open_by_keyboard_and_add_up_to_the_score(page: Any, service: httpx.Client, photos: list[str]) -> None:
    classify(page, photos[:1])
    expected = ask(service, "explain", photos[0], labels=LABELS)
    page.locator(".card summary").focus()
    page.keyboard.press("Enter")
    rows = page.locator(".sum tbody tr")
    parts, total = read_sum(page.locator(".sum"))
    assert total == pytest.approx(expected["predictions"][0]["score"], abs=6e-5)
    explanation = expected["explanation"]
    assert parts[:5] == pytest.approx([each["contribution"] for each in explanation["contributions"]], abs=2e-4)
    assert f"{explanation['others']} further pair" in rows.nth(5).inner_text()
    assert rows.locator(".caption").all_inner_texts() == [each["captions"][0] for each in explanation["contributions"]]
    credits = {pair["id"]: pair for pair in expected["credits"]["pairs"]}
    for row, pair in zip(rows.all(), explanation["contributions"], strict=False):
        text = row.inner_text()
        for name in ("id", "source", "licence", "url"):
            assert (credits[pair["id"]][name] or "") in text


def test_more_pairs_are_shown_and_the_card_stays_open(page: Any, photos: list[str]) -> None:
    classify(page, photos[:1])
    page.click(".card summary")
    more = page.locator("text=Show more pairs")
    more.focus()
    page.keyboard.press("Enter")
    page.locator(".sum .pair").nth(5).wait_for()
    assert read_sum(page.locator(".sum"))[1] == to_number(read_ranking(page)[0][1])
    assert page.evaluate("document.activeElement.closest('.card') !== null")


def test_pairs_have_thumbnails_or_a_neutral_frame(page: Any, photos: list[str]) -> None:
    page.select_option("#anchors", "own")
    classify(page, photos[:1])
    page.click(".card summary")
    shown = """() => {
        const images = [...document.querySelectorAll(".sum img")];
        const texts = [...document.querySelectorAll(".sum .caption")];
        const captions = texts.map((each) => each.innerText), names = images.map((each) => each.alt);
        return names.length && `${names}` === `${captions}` && images.every((each) => each.naturalWidth > 0);
    }"""
    page.wait_for_function(shown)  # pairs come one after another
    page.select_option("#anchors", "one")
    page.locator(".card", has_text="one version").wait_for()
    count = "(chosen) => document.querySelectorAll(`.sum ${chosen}`).length"
    page.wait_for_function(f"() => ({count})('.pair') && ({count})('.pair') === ({count})('.frame.missing')")
    assert page.locator(".sum img").count() == 0


def test_dropped_and_pasted_photos_are_taken(page: Any) -> None:
    content = list(draw_photo(103))
    make = """(content) => { const moved = new DataTransfer();
        moved.items.add(new File([new Uint8Array(content)], "moved.png", {type: "image/png"})); return moved; }"""
    page.dispatch_event("main", "drop", {"dataTransfer": page.evaluate_handle(make, content)})
    page.locator(".card").nth(0).wait_for()
    moved = page.evaluate_handle(make, content)
    page.evaluate("(moved) => dispatchEvent(new ClipboardEvent('paste', {clipboardData: moved}))", moved)
    page.locator(".card").nth(1).wait_for()
    page.evaluate("(moved) => moved.items.add('words', 'text/plain')", moved)
    page.locator("#labels").focus()
    paste = "(moved) => labels.dispatchEvent(new ClipboardEvent('paste', {clipboardData: moved, bubbles: true}))"
    page.evaluate(paste, moved)  # from an office program: the words are meant
    assert page.locator(".card").count() == 2
    page.click("[aria-label='Remove moved.png'] >> nth=0")
    assert page.locator(".card").count() == 1


def test_a_photo_that_cannot_be_classified_says_why(page: Any, tmp_path: Path, photos: list[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "large.png").write_bytes(bytes(11_000_000))
    page.set_input_files("#photos", [str(tmp_path / "broken.png"), str(tmp_path / "large.png"), photos[0]])
    page.fill("#labels", "a dog")
    page.keyboard.press("Control+Enter")
    wait_for_status(page, "classify", "classified by")
    assert page.locator(".card").nth(2).locator(".ranking").count() == 1
    for card, why in enumerate(("broken", "10,000,000 bytes")):
        text = page.locator(".card").nth(card).inner_text()
        assert "This photo cannot be classified" in text and why in text


# ---- search


def test_a_search_by_words_a_photo_and_both(page: Any, service: httpx.Client, photos: list[str]) -> None:
    page.click("nav >> text=Search")
    page.fill("#words", "a dog")
    page.press("#words", "Enter")
    check_results(page, ask(service, "search", queries=[{"texts": ["a dog"]}]))
    page.fill("#words", "")
    page.set_input_files("#similar", photos[:1])
    page.click("#ask-search [type=submit]")
    wait_for_status(page, "search", "image space")
    check_results(page, ask(service, "search", photos[0], queries=[{}]))
    page.fill("#words", "a dog")
    page.fill("#minus", "a cat, snow")
    page.click("#ask-search [type=submit]")
    wait_for_status(page, "search", "through the anchors")
    query = {"texts": ["a dog"], "minus": ["a cat", "snow"]}
    check_results(page, ask(service, "search", photos[0], queries=[query]))


def check_results(page: Any, expected: dict[str, Any]) -> None:
    """Compare results with those of the service: order, scores, what is above chance, thumbnails with texts."""
    page.locator(".result").nth(len(expected["results"]) - 1).locator("img").wait_for()
    assert page.locator(".result code").all_inner_texts() == [each["id"] for each in expected["results"]]
    scores = map(to_number, page.locator(".result strong").all_inner_texts())
    assert list(scores) == pytest.approx([each["score"] for each in expected["results"]], abs=6e-5)
    standing = page.locator(".result .line .soft").all_inner_texts()
    assert standing.count("above chance") == expected["relevant"]
    assert f"{expected['relevant']} of {expected['searched']} above chance" in page.locator("#found").inner_text()
    images = page.locator(".result img")
    assert all(images.evaluate_all("all => all.map((x) => x.complete && x.naturalWidth > 0)"))
    assert images.evaluate_all("all => all.map((x) => x.alt)") == [each["id"] for each in expected["results"]]


def test_reasons_of_a_result_and_more_like_it(page: Any, service: httpx.Client) -> None:
    page.click("nav >> text=Search")
    page.fill("#words", "a dog")
    page.fill("#minus", "snow")
    page.press("#words", "Enter")
    second = page.locator(".result").nth(1)
    why = second.locator("[aria-expanded]")
    why.focus()
    page.keyboard.press("Enter")
    second.locator(".sum").nth(1).wait_for()
    assert why.get_attribute("aria-expanded") == "true"
    query = {"texts": ["a dog"], "minus": ["snow"]}
    expected = ask(service, "search", queries=[query], explain=5)["results"][1]
    assert read_sum(second.locator(".sum").nth(0))[1] == pytest.approx(expected["score"], abs=6e-5)
    assert second.locator(".sum").nth(1).locator("th").all_inner_texts() == ["a dog", "without snow"]
    assert "Could it be chance?" in second.inner_text()
    second.locator("text=More like this").click()
    page.locator("#parts li", has_text=f"like {expected['id']}").wait_for()
    wait_for_status(page, "search", "image space")
    assert page.locator(".result code").first.inner_text() == expected["id"]
    assert page.input_value("#words") == page.input_value("#minus") == ""
    assert page.evaluate("document.activeElement.id") == "found"


def test_more_results_and_only_relevant_ones(page: Any, service: httpx.Client) -> None:
    page.click("nav >> text=Search")
    page.select_option("#gallery", "many")
    page.fill("#words", "a dog")
    page.press("#words", "Enter")
    page.locator(".result").nth(23).wait_for()
    page.locator("#more").focus()
    page.keyboard.press("Enter")
    page.locator(".result").nth(29).wait_for()
    expected = ask(service, "search", gallery="many", queries=[{"texts": ["a dog"]}], k=30)
    check_results(page, expected)
    assert not page.locator("#more").is_visible()
    assert (
        page.evaluate("document.activeElement.closest('.result')?.querySelector('code').textContent")
        == (expected["results"][24]["id"])
    )
    page.check("#relevant")
    page.click("#ask-search [type=submit]")
    relevant = ask(service, "search", gallery="many", queries=[{"texts": ["a dog"]}], k=24, only_relevant=True)
    page.locator(".result").nth(29).wait_for(state="detached")
    assert page.locator(".result").count() == len(relevant["results"])


def test_without_a_gallery_the_page_says_how_to_make_one(page: Any) -> None:
    page.route("**/v1/galleries", lambda route: route.fulfill(json={"galleries": []}))
    page.reload()
    page.locator("#version").wait_for()
    page.click("nav >> text=Search")
    assert "asif gallery build" in page.locator("#no-gallery").inner_text()
    assert not page.locator("#ask-search").is_visible()


# ---- anchors and changes


def test_another_set_is_chosen_and_answers(page: Any, service: httpx.Client, photos: list[str]) -> None:
    classify(page, photos[:1])
    assert page.locator("#digest").get_attribute("title") == list_served(service, "one")["digest"]
    page.select_option("#anchors", "two")
    page.locator(".card", has_text="two version 1").wait_for()
    assert page.locator("#digest").get_attribute("title") == list_served(service, "two")["digest"]
    expected = ask(service, "classify", photos[0], labels=LABELS, anchors="two")["predictions"]
    assert [label for label, _ in read_ranking(page)] == [each["label"] for each in expected]


def test_a_pair_is_added_and_taken_out_and_swapped_back(
    page: Any, service: httpx.Client, photos: list[str], tmp_path: Path
) -> None:
    classify(page, photos[:1])
    before, digest = read_ranking(page), page.locator("#digest").get_attribute("title")
    worst = before[-1][0]
    open_part(page, "Add a pair")
    page.set_input_files("#pair-photo", photos[0])
    page.fill("#captions", worst)
    page.fill("#pair-id", "mine/1")
    page.click("text='Add the pair'")
    page.locator(".card", has_text="one version 2").wait_for()  # nobody pressed Classify
    added = read_ranking(page)
    assert added[0][0] == worst and to_number(added[0][1]) > to_number(before[0][1])
    assert f"was {before[-1][1]}" in page.locator(".ranking li").first.inner_text()
    assert page.locator("#version").inner_text() == "2"
    assert page.locator("#digest").get_attribute("title") == list_served(service, "one")["digest"] != digest

    page.click(".card summary")
    assert page.locator(".sum .pair", has_text="mine/1").locator("img").evaluate("each => each.naturalWidth") > 0
    page.click("[aria-label='Take out mine/1']")
    assert "mine/1" in page.locator("#confirm").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#version").inner_text() == "2"
    page.click("[aria-label='Take out mine/1']")
    page.click("#confirm-yes")
    page.locator(".card", has_text="one version 3").wait_for()
    assert page.evaluate("document.activeElement.textContent") == f"Why {before[0][0]}"
    assert read_ranking(page) == before
    assert page.locator("#digest").get_attribute("title") == digest
    with page.expect_download() as download:
        page.click("text=Download the receipt")
    assert download.value.suggested_filename == "receipt-mine_1.json"
    download.value.save_as(tmp_path / "receipt.json")
    receipt = read_receipt(tmp_path / "receipt.json")
    assert (receipt.name, len(receipt.removed), receipt.after.version) == (
        "one",
        1,
        list_served(service, "one")["version"],
    )

    open_part(page, "Swap to another version")
    page.fill("#ref", "one@2")
    page.press("#ref", "Enter")
    page.locator(".card", has_text="one version 2").wait_for()
    assert read_ranking(page) == added
    assert "served as one@2" in page.locator("#identity").inner_text()
    page.fill("#ref", "one")
    page.press("#ref", "Enter")
    page.locator(".card", has_text="one version 3").wait_for()
    assert page.locator("#changes li").count() == 4


def test_a_pair_without_an_id_gets_one_and_is_taken_out_by_it(page: Any, service: httpx.Client) -> None:
    pairs = list_served(service, "two")["pairs"]
    page.select_option("#anchors", "two")
    open_part(page, "Add a pair")
    page.set_input_files("#pair-photo", {"name": "a.png", "mimeType": "image/png", "buffer": draw_photo(105)})
    page.fill("#captions", "a kite\nin the sky")
    page.click("text='Add the pair'")
    page.locator("#changes li").wait_for()
    (name,) = re.findall(r"Added (\w{16}): ", page.locator("#changes li").inner_text())
    assert list_served(service, "two")["pairs"] == pairs + 1
    open_part(page, "Take a pair out")
    page.fill("#remove-id", name)
    page.press("#remove-id", "Enter")
    page.click("#confirm-yes")
    page.locator("#changes li").nth(1).wait_for()
    assert list_served(service, "two")["pairs"] == pairs


def test_refused_swaps_say_why_and_what_to_do(page: Any, service: httpx.Client) -> None:
    served = list_served(service, "one")
    open_part(page, "Swap to another version")
    for ref, problem in (("other", "timm:"), ("one@99", "99"), ("nothing", "'nothing'")):
        page.fill("#ref", ref)
        page.press("#ref", "Enter")
        alert = page.locator("#edit [role=alert]", has_text=problem)
        alert.wait_for()
        text = alert.inner_text()
        assert "Expected:" in text and "What to do:" in text and re.search(r"Request \w{16}", text)
    assert list_served(service, "one") == served
    page.click("text=Dismiss")
    assert page.locator("#edit .problem").count() == 0


# ---- keys


def test_keys_are_demanded_refused_and_kept(browser: Any, guarded: httpx.Client, photos: list[str]) -> None:
    with open_page(browser, str(guarded.base_url)) as watched:
        page = watched.page
        page.locator("[role=alert]", has_text="No valid key").wait_for()
        for key, problem in (("asif_wrong", "No valid key"), (KEYS["read"], None)):
            page.fill("#key", key)
            page.press("#key", "Enter")
            if problem:
                page.locator("[role=alert]", has_text=problem).wait_for()
        page.locator("#version").wait_for()
        classify(page, photos[:1])
        expected = ask(guarded, "classify", photos[0], key=KEYS["read"], labels=LABELS)["predictions"]
        assert [label for label, _ in read_ranking(page)] == [each["label"] for each in expected]
        add_pair(page, photos[0])
        page.locator("#edit [role=alert]", has_text="the role edit").wait_for()
        page.fill("#key", KEYS["edit"])
        page.press("#key", "Enter")
        wait_for_status(page, "classify", "Ready")
        page.click("text='Add the pair'")
        page.locator("#changes li").wait_for()
        page.reload()
        page.locator("#version").wait_for()
        page.click("nav >> text=Search")
        page.fill("#words", "a dog")
        page.press("#words", "Enter")
        page.locator(".result img").first.wait_for()  # the key is sent for thumbnails too
        watched.check()


def add_pair(page: Any, photo: str) -> None:
    open_part(page, "Add a pair")
    page.set_input_files("#pair-photo", photo)
    page.fill("#captions", "a photo")
    page.click("text='Add the pair'")


# ---- texts of strangers


def test_hostile_texts_stay_texts(browser: Any, service: httpx.Client, photos: list[str]) -> None:
    pairs = [
        {"id": HOSTILE, "captions": [HOSTILE, "more"], "licence": HOSTILE, "source": HOSTILE, "url": url}
        for url in ("javascript:window.hacked=1",)
    ] + [{"id": "linked", "captions": ["a dog"], "url": "https://example.org/'\"><script>window.hacked=1</script>"}]
    files = [("images", ("photo", Path(photos[0]).read_bytes())), ("images", ("photo", draw_photo(107)))]
    request = {"request": json.dumps({"pairs": pairs})}
    assert service.post("/v1/anchors/two/pairs", data=request, files=files).status_code == 200
    with open_page(browser, str(service.base_url)) as watched:
        page = watched.page
        page.locator("#version").wait_for()
        page.select_option("#anchors", "two")
        page.set_input_files(
            "#photos", {"name": HOSTILE, "mimeType": "image/png", "buffer": Path(photos[0]).read_bytes()}
        )
        page.fill("#labels", HOSTILE.replace('"', '""').join('""') + ", a dog")
        page.keyboard.press("Control+Enter")
        page.locator(".ranking").wait_for()
        assert HOSTILE in [label for label, _ in read_ranking(page)]
        page.click(".card summary")
        page.click("text=Show more pairs")
        page.locator(".sum .pair").nth(5).wait_for()
        row = page.locator(".sum tr", has_text="javascript:")
        assert HOSTILE in row.inner_text() and row.locator("a").count() == 0
        link = page.locator(".sum a", has_text="'\">")
        assert link.get_attribute("href").startswith("https://example.org/")
        for each in page.locator(".sum a").all():
            assert (each.get_attribute("rel"), each.get_attribute("target")) == ("noopener noreferrer", "_blank")
        row.locator("button").click()
        assert HOSTILE in page.locator("#confirm-what").inner_text()
        page.click("#confirm-yes")
        page.locator("#changes li").wait_for()
        assert page.evaluate("window.hacked") is None
        assert page.locator("main script, main img[src=x]").count() == 0
        watched.check()
    assert service.delete("/v1/anchors/two/pairs/linked").status_code == 200


def test_hostile_texts_of_a_gallery_stay_texts(page: Any, service: httpx.Client, photos: list[str]) -> None:
    page.click("nav >> text=Search")
    page.select_option("#gallery", "texts")
    page.set_input_files("#similar", {"name": HOSTILE, "mimeType": "image/png", "buffer": draw_photo(108)})
    page.fill("#words", HOSTILE)
    page.click("#ask-search [type=submit]")
    page.locator(".words").nth(2).wait_for()
    assert sorted(page.locator(".words").all_inner_texts()) == sorted([HOSTILE, "a dog on a beach", "a cat"])
    page.click(".result >> nth=0 >> [aria-expanded]")
    parts = page.locator(".result .sum").nth(1)
    parts.wait_for()
    assert parts.locator("th").all_inner_texts() == [HOSTILE, "photo"]
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img[src=x]").count() == 0


# ---- waiting, cancelling, faults


def test_a_busy_service_is_tried_again(page: Any, photos: list[str]) -> None:
    answers = []

    def refuse_twice(route: Any) -> None:
        answers.append(route.request.post_data_buffer)
        if len(answers) > 2:
            return route.continue_()
        route.fulfill(status=429, headers={"Retry-After": "1"}, json={"title": "too many requests", "status": 429})

    page.route("**/v1/classify", refuse_twice)
    page.set_input_files("#photos", photos[:1])
    page.fill("#labels", "a dog")
    page.keyboard.press("Control+Enter")
    wait_for_status(page, "classify", "busy; trying again in 1 second")
    page.locator(".ranking").wait_for()
    assert len(answers) == 3


def test_long_work_shows_progress_and_is_cancelled(page: Any, photos: list[str]) -> None:
    held = []
    page.route("**/v1/classify", lambda route: route.continue_() if not held and not held.append(route) else None)
    page.set_input_files("#photos", photos)
    page.fill("#labels", "a dog")
    page.keyboard.press("Control+Enter")
    page.locator(".ranking").wait_for()  # the first photo's, while the other waits
    assert page.locator("#answers-classify").get_attribute("aria-busy") == "true"
    assert page.locator("#ask-classify progress").evaluate("x => [x.value, x.max]") == [1, 2]
    page.click("text=Cancel")
    wait_for_status(page, "classify", "Cancelled")
    assert page.locator("#answers-classify").get_attribute("aria-busy") == "false"
    assert not page.locator("#ask-classify progress").is_visible()


def test_a_service_that_is_gone_is_named(page: Any, photos: list[str]) -> None:
    page.route("**/v1/classify", lambda route: route.abort())
    page.set_input_files("#photos", photos[:1])
    page.fill("#labels", "a dog")
    page.keyboard.press("Control+Enter")
    page.locator("[role=alert]", has_text="check that asif serve runs").wait_for()


# ---- access


def test_the_whole_way_by_keyboard(page: Any, photos: list[str]) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if focused() == name:
                return
        raise AssertionError(f"{name} has no focus")

    page.on("filechooser", lambda chooser: None)  # from now on the browser shows none of its own
    tab_to("photos")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos[:1])
    tab_to("labels")
    page.keyboard.type("a dog, a cat")
    tab_to("Classify")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.locator(".ranking").wait_for()
    tab_to(f"Why {read_ranking(page)[0][0]}")
    page.keyboard.press("Enter")
    page.locator(".sum").wait_for()


def test_everything_has_a_name(page: Any, photos: list[str]) -> None:
    classify(page, photos)
    page.click(".card summary >> nth=0")
    page.locator(".sum").wait_for()
    page.click("nav >> text=Search")
    page.fill("#words", "a dog")
    page.set_input_files("#similar", photos[:1])
    page.press("#words", "Enter")
    page.locator(".result img").first.wait_for()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, select, button, summary, a, progress")]
        .filter((each) => !(each.ariaLabel || each.labels?.length || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert page.evaluate("[...document.images].filter((x) => !x.hasAttribute('alt')).length") == 0
    assert page.evaluate("document.documentElement.lang") == "en"
    for place in ("header", "nav", "main"):
        assert page.locator(place).count() == 1
    assert page.locator("[role=status]").count() == page.locator("[role=alert]").count() == 3
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (900, "light"), (1600, "dark")])
def test_no_width_scrolls_sideways(
    browser: Any, service: httpx.Client, photos: list[str], width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900}
    with open_page(browser, str(service.base_url), viewport=size, color_scheme=scheme) as watched:
        page = watched.page
        page.locator("#version").wait_for()
        classify(page, photos, "a dog, " + "x" * 300)
        page.click(".card summary >> nth=0")
        for title in ("Add a pair", "Take a pair out", "Swap to another version"):
            open_part(page, title)
        check_width(page, width)
        page.click("nav >> text=Search")
        page.fill("#words", "a dog")
        page.press("#words", "Enter")
        page.click(".result >> nth=0 >> [aria-expanded]")
        page.locator(".result .sum").wait_for()
        check_width(page, width)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def check_width(page: Any, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_motion_is_reduced_where_it_is_wished(browser: Any, service: httpx.Client, photos: list[str]) -> None:
    for wish, duration in (("reduce", "0s"), ("no-preference", "0.25s")):
        with open_page(browser, str(service.base_url), reduced_motion=wish) as watched:
            watched.page.locator("#version").wait_for()
            classify(watched.page, photos[:1])
            assert (
                watched.page.evaluate("getComputedStyle(document.querySelector('.bar')).transitionDuration") == duration
            )


def test_pages_share_their_colours() -> None:
    reports, served = (
        (Path(room.__path__[0]) / name).read_text()
        for room, name in ((asif.report, "page.css"), (asif.service, "page/page.css"))
    )
    for name in ("ground", "card", "ink", "soft", "line", "first", "second"):
        colours = re.findall(rf"--{name}: (#\w+)", reports)
        assert len(colours) == 2 and re.findall(rf"--{name}: (#\w+)", served) == colours


def test_the_script_sets_texts_only() -> None:
    script = (Path(asif.service.__path__[0]) / "page" / "page.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert way not in script
