"""Audits: what was planted is found, and nothing else; figures are those of sorting everything; the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_sets import DIMS, NEAR, Planted, cosines, neighbours, planted, publish, sha256
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_precomputed, make_set
from support.running import Cli

from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit import KINDS, Audited, Probe, Terms, audit, probe_of
from asif.evaluate.audit.near_duplicates import Alike
from asif.evaluate.audit.overlap import breadth
from asif.evaluate.audit.usage import LeftOut, Usage, histogram, usage
from asif.kernels import Engine as Kernel
from asif.pairs import PairRecord
from asif.vectors import SIDES, Embeddings

TERMS = Terms(near=NEAR)


@pytest.fixture(scope="module")
def faults() -> Planted:
    return planted()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, faults: Planted) -> Path:
    home = tmp_path_factory.mktemp("audit")
    faults.build(home)
    return home


@pytest.fixture(scope="module")
def audited(store: Path) -> Audited:
    return audit(Engine("planted", home=store), terms=TERMS)


def found(audited: Audited, kind: str) -> Any:
    (finding,) = (each for each in audited.findings if each.kind == kind)
    return finding


def ids(audited: Audited, rows: Any) -> set[str]:
    return {record.id for record in audited.anchors.records(rows)}


# ---- what was planted


def test_what_was_planted_is_found_and_nothing_else(audited: Audited, faults: Planted) -> None:
    beside = {"same_pair": "p0010", "same_image": "p0020", "same_embedding": "p0030", "near_image": "p0040"}
    assert tuple(each.kind for each in audited.findings) == KINDS
    for kind in KINDS:
        expected = {*faults.ids[kind], *([beside[kind]] if kind in beside else [])}
        assert ids(audited, found(audited, kind).rows) == expected, kind
        assert set(audited.ids(found(audited, kind))) == (
            set(faults.ids[kind][1:]) if kind == "shared_caption" else set(faults.ids[kind])
        ), kind


def test_clean_pairs_have_none(tmp_path: Path) -> None:
    good = planted()
    keep = [record.id in good.ids["good"] for record in good.records]
    for name in ("records", "image", "text"):
        setattr(good, name, [each for each, kept in zip(getattr(good, name), keep, strict=True) if kept])
    good.build(tmp_path, "good")
    results = audit(Engine("good", home=tmp_path), terms=TERMS).as_dict()
    assert [(each["kind"], each["anchors"], each["listed"]) for each in results["findings"]] == [
        (kind, 0, []) for kind in KINDS
    ]


def test_near_duplicates_come_with_cosines_to_the_first(audited: Audited) -> None:
    results = audited.as_dict()
    (entry,) = results["findings"][KINDS.index("near_image")]["listed"]
    first, other = entry["pairs"]
    rows = [int(pair["id"][1:]) for pair in entry["pairs"]]
    assert (first["image_cosine"], first["caption_cosine"]) == pytest.approx((1.0, 1.0))
    for side, name in (("image", "image_cosine"), ("text", "caption_cosine")):
        assert other[name] == pytest.approx(cosines(audited.anchors, side)[rows[0], rows[1]], abs=1e-5)


def test_disagreeing_pairs_are_ranked_and_shown_beside_their_neighbours(audited: Audited, faults: Planted) -> None:
    finding = audited.as_dict()["findings"][0]
    k = breadth(audited.anchors.count)
    similar = {side: cosines(audited.anchors, side) for side in SIDES}
    likeness = []
    for entry in finding["listed"]:
        row = int(entry["pairs"][0]["id"][1:])
        lists = {side: neighbours(similar[side], row, {row}, k) for side in SIDES}
        assert not set(lists["image"]) & set(lists["text"])
        for side, other in (("image", "text"), ("text", "image")):
            named = [pair["id"] for pair in entry[f"near_{side}"]]
            assert named == [f"p{at:04d}" for at in lists[side][:2]]
            expected = (similar[side][row, lists[other]].mean() - similar[side][row].mean()) / similar[side][row].std()
            assert entry[f"{side}_likeness"] == pytest.approx(expected, abs=2e-3)
        likeness.append(entry["image_likeness"] + entry["text_likeness"])
    assert likeness == sorted(likeness) and max(likeness) < 0.5
    assert finding["typical"]["image"] > 1 and finding["typical"]["text"] > 1
    assert finding["judged"] == audited.anchors.count - 1  # nothing is near to the one against all others


# ---- against sorting everything


def expected_use(audited: Audited, side: Any, k: int, rows: Sequence[int]) -> Any:
    """Count use by sorting everything: an anchor, its copies and near copies are not there for itself."""
    images, similar = cosines(audited.anchors, "image"), cosines(audited.anchors, side)
    counts = np.zeros(len(images), int)
    for row in rows:
        out = {row, *np.flatnonzero(images[row] >= NEAR).tolist()}
        counts[neighbours(similar, row, out, k)] += 1
    return counts


@pytest.mark.parametrize("side", SIDES)
def test_use_is_that_of_sorting_everything(audited: Audited, side: Any) -> None:
    use = audited.used[side]
    np.testing.assert_array_equal(use.counts, expected_use(audited, side, use.k, range(audited.anchors.count)))
    about = use.as_dict()
    away = use.counts - use.counts.mean()
    assert about["skewness"] == pytest.approx((away**3).mean() / (away**2).mean() ** 1.5)
    assert sum(anchors for _, _, anchors in about["histogram"]) == audited.anchors.count
    assert about["unused"] == (use.counts == 0).sum() and about["most"] == use.counts.max()


def test_overlap_is_that_of_sorting_everything(audited: Audited) -> None:
    k, count = breadth(audited.anchors.count), audited.anchors.count
    images, texts = cosines(audited.anchors, "image"), cosines(audited.anchors, "text")
    shared = []
    for row in range(count):
        out = {row, *np.flatnonzero(images[row] >= NEAR).tolist()}
        lists = [set(neighbours(similar, row, out, k)) for similar in (images, texts)]
        shared.append(len(lists[0] & lists[1]) if all(lists) else None)
    judged = [number for number in shared if number is not None]
    figures = found(audited, "disagreement").figures
    assert figures["judged"] == len(judged)
    assert figures["shared_on_average"] == pytest.approx(np.mean(judged), abs=0.05)  # ties at the last place
    assert {row for row, number in enumerate(shared) if number == 0} == set(found(audited, "disagreement").rows)


@pytest.mark.parametrize("kernel", ["faiss", "torch"])
def test_neither_engine_nor_blocks_matter(audited: Audited, faults: Planted, tmp_path: Path, kernel: Kernel) -> None:
    faults.build(tmp_path, cut=1000)
    other = audit(Engine("planted", home=tmp_path, kernel=kernel), terms=TERMS).as_dict()
    mine = audited.as_dict()
    for each in (mine, other):
        del each["created"]
    assert mine == other


@given(st.data())
def test_use_with_any_ties_and_copies(data: st.DataObject) -> None:
    count, k = data.draw(st.integers(4, 9)), data.draw(st.integers(1, 3))
    numbers = st.lists(st.integers(0, 3), min_size=count, max_size=count).map(np.array)
    twins, copies = data.draw(numbers), data.draw(numbers)
    rows = np.arange(count)
    edges = [(i, j) for i in range(count) for j in range(count) if copies[i] != copies[j] and (i + j) % 5 == 0]
    alike = Alike(*(np.array([edge[at] for edge in edges], np.int64) for at in (0, 1)), count)
    lists, expected = [], np.zeros(count, int)
    for row in range(count):
        out = {at for at in range(count) if copies[at] == copies[row] or (row, at) in edges}
        near = [at for at in range(count) if at not in out][:k]
        lists.append(near + [-1] * (k - len(near)))
        expected[[at for at in range(count) if at not in out and twins[at] in twins[near]]] += bool(near)
    use = usage(np.array(lists), twins, k, LeftOut(rows, copies, alike))
    assert use.counts.tolist() == expected.tolist()


# ---- captions that are labels, captions that are anchors


def labelled(home: Path, classes: int = 6, each: int = 20, wrong: int = 0) -> Audited:
    """Audit images about their class, whose texts are the classes' own; the first `wrong` have others'."""
    random = np.random.default_rng(3)
    centres, words = (random.standard_normal((classes, dim)) for dim in DIMS)
    numbers = np.repeat(np.arange(classes), each)
    images = 2 * centres[numbers] + random.standard_normal((len(numbers), DIMS[0])) + 1
    said = numbers.copy()
    said[:wrong] = 3 + np.arange(wrong)
    records = [PairRecord(f"p{at:04d}", (f"class {one}",), sha256(f"{at}")) for at, one in enumerate(said)]
    texts = Embeddings.from_raw(words[said] + 1).values
    publish(home, "labels", records, Embeddings.from_raw(images).values, texts)
    return audit(Engine("labels", home=home), terms=TERMS)


def test_labels_are_no_fault(tmp_path: Path) -> None:
    audited = labelled(tmp_path)
    shared = found(audited, "shared_caption")
    assert (len(shared.rows), shared.total, len(shared.removable)) == (120, 6, 0) and "labels" in shared.notes[0]
    assert [entry["caption"] for entry in audited.as_dict()["findings"][-1]["listed"]] == [
        f"class {one}" for one in range(6)
    ]
    for kind in KINDS[:-1]:
        assert not len(found(audited, kind).rows), kind
    assert audited.used["text"].counts.min() > 0  # equal texts are used together, however few of them k is


def test_wrong_labels_are_found(tmp_path: Path) -> None:
    audited = labelled(tmp_path, wrong=2)
    assert ids(audited, found(audited, "disagreement").rows) == {"p0000", "p0001"}


def test_captions_that_are_anchors_of_one_image_are_no_copies(tmp_path: Path) -> None:
    random, records, images, texts = np.random.default_rng(5), [], [], []
    for at in range(40):
        image = random.standard_normal(DIMS[0]) + 1
        for caption in range(3):
            records.append(PairRecord(f"p{at:02d}#{caption}", (f"{at} {caption}",), sha256(f"{at}")))
            images.append(image)
            texts.append(random.standard_normal(DIMS[1]) + 1)
    sides = [Embeddings.from_raw(np.stack(side)).values for side in (images, texts)]
    publish(tmp_path, "each", records, *sides, captions="all")
    audited = audit(Engine("each", home=tmp_path), terms=TERMS)
    for kind in ("same_pair", "same_image", "same_embedding", "near_image", "shared_caption"):
        assert not len(found(audited, kind).rows), kind
    publish(tmp_path, "plain", records, *sides)
    plain = audit(Engine("plain", home=tmp_path), terms=TERMS)
    assert len(found(plain, "same_image").rows) == 120


def test_a_caption_shared_by_some_of_several(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    captions = [(f"own {at}", "A  dog") if at < 4 else (f"own {at}",) for at in range(20)] + [("a dog",)] * 2
    records = [PairRecord(f"p{at:02d}", said, sha256(f"{at}")) for at, said in enumerate(captions)]
    sides = [Embeddings.from_raw(random.standard_normal((22, dim)) + 1).values for dim in DIMS]
    publish(tmp_path, "some", records, *sides)
    audited = audit(Engine("some", home=tmp_path), terms=TERMS)
    (entry,) = audited.as_dict()["findings"][-1]["listed"]
    assert (entry["caption"], entry["count"], entry["images"]) == ("a dog", 6, 6)
    assert audited.ids(found(audited, "shared_caption")) == ["p21"]  # the others have a caption of their own, or stay


# ---- origins, samples, small and odd sets


def test_counts_by_source_and_licence_add_up(audited: Audited) -> None:
    results = audited.as_dict()
    for name in ("sources", "licences"):
        rows = results[name]["rows"]
        assert sum(row["anchors"] for row in rows) == audited.anchors.count
        for finding in results["findings"]:
            assert sum(row["found"][finding["kind"]] for row in rows) == finding["anchors"]
    records = audited.anchors.records(range(audited.anchors.count))
    assert results["licences"]["missing"] == sum(record.licence is None for record in records)
    assert {row["name"] for row in results["sources"]["rows"]} == {"web", "book", None}
    web = next(row for row in results["sources"]["rows"] if row["name"] == "web")
    wrong = set(found(audited, "disagreement").rows.tolist())
    assert web["found"]["disagreement"] == sum(records[row].source == "web" for row in wrong)


def test_a_sample_asks_about_some_and_finds_exact_copies_among_all(store: Path, faults: Planted) -> None:
    engine, terms = Engine("planted", home=store), Terms(NEAR, sample=50, seed=4)
    some, again = (audit(engine, terms=terms) for _ in range(2))
    assert some.how["sampled"] and some.how["asked"] == 50
    assert [each.rows.tolist() for each in some.findings] == [each.rows.tolist() for each in again.findings]
    for kind in ("same_pair", "same_image", "same_embedding"):
        assert set(some.ids(found(some, kind))) == set(faults.ids[kind])
    rows = np.sort(np.random.default_rng(4).choice(some.anchors.count, 50, replace=False))
    use = some.used["image"]
    assert use.queries == 50
    np.testing.assert_array_equal(use.counts, expected_use(some, "image", use.k, rows.tolist()))
    assert set(found(some, "disagreement").rows) <= set(rows.tolist())
    other = audit(engine, terms=Terms(NEAR, sample=50, seed=5))
    assert other.used["image"].counts.tolist() != use.counts.tolist()


def test_too_low_a_threshold_is_said(store: Path) -> None:
    finding = found(audit(Engine("planted", home=store), terms=Terms(near=0.5)), "near_image")
    assert "raise --near" in finding.notes[0]


def test_small_sets_are_audited_too_and_tiny_ones_refused(tmp_path: Path) -> None:
    small = audit(Engine("toy", home=make_set(tmp_path, count=3) and tmp_path))
    assert small.anchors.count == 3 and any("so few" in note for note in found(small, "disagreement").notes)
    assert "Not judged" in found(small, "never_used").notes[0] and not len(found(small, "never_used").rows)
    make_set(tmp_path, "two", count=2)
    with pytest.raises(InputRefused, match="2 anchors"):
        audit(Engine("two", home=tmp_path))


@pytest.mark.parametrize("near", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_a_threshold_is_a_cosine(near: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        Terms(near=near)


def test_queries_that_are_too_few_judge_nothing() -> None:
    few = Usage(np.array([3, *[0] * 99]), 3, 1)
    assert few.says_nothing is not None and "too few" in few.says_nothing
    assert few.unused_by_chance == pytest.approx(100 * 0.99**3)
    assert Usage(np.full(100, 20), 100, 20).says_nothing is None
    most = Usage(np.full(10, 60), 100, 6)
    assert most.says_nothing is not None and "tells little apart" in most.says_nothing
    assert histogram(np.array([0, 1, 4])) == [[0, 0, 1], [1, 1, 1], [2, 3, 0], [4, 7, 1]]


def test_an_aligner_about_the_mean_decides_what_is_near(store: Path, faults: Planted, audited: Audited) -> None:
    from asif.aligners.relative import Relative

    centred = audit(Engine("planted", home=store, aligner=Relative(k=7, centre=True)), terms=TERMS)
    assert (centred.how["k"], centred.how["centre"], centred.how["k_from"]) == (7, True, "profile")
    hub = found(centred, "hub")
    assert not set(faults.ids["hub"]) & ids(centred, hub.rows)  # its direction is the mean's, and gone
    np.testing.assert_array_equal(found(centred, "near_image").rows, found(audited, "near_image").rows)


# ---- probes


def test_a_probe_of_queries_is_what_use_is_counted_by(store: Path, audited: Audited) -> None:
    random = np.random.default_rng(8)
    queries = Embeddings.from_raw(0.1 * random.standard_normal((300, DIMS[0])) + audited.anchors.mean("image")).values
    probed = audit(Engine("planted", home=store), Probe({"image": queries}, {"path": "x"}), TERMS)
    rows = np.concatenate([np.asarray(block, np.float64) for block in audited.anchors.blocks("image")])
    similar = queries.astype(np.float64) @ rows.T
    k, expected = probed.how["k"], np.zeros(len(rows), int)
    for row in range(len(queries)):
        expected[neighbours(similar, row, set(), k)] += 1
    assert set(probed.used) == {"image"} and probed.used["image"].queries == 300
    np.testing.assert_array_equal(probed.used["image"].counts, expected)
    np.testing.assert_array_equal(found(probed, "disagreement").rows, found(audited, "disagreement").rows)


@pytest.fixture
def toys(home: Path, hashing: None, tmp_path: Path) -> Path:
    """Make a toy set, and a folder of three images that its encoder hashes."""
    make_set(home, count=60)
    folder = tmp_path / "images"
    folder.mkdir()
    for at in range(3):
        (folder / f"{at}.png").write_bytes(b"image %d" % at)
    return folder


def test_probes_are_pairs_labelled_images_or_images(toys: Path, home: Path, tmp_path: Path) -> None:
    engine = Engine("toy", home=home)
    images = probe_of(engine, str(toys))
    assert set(images.queries) == {"image"} and images.queries["image"].shape == (3, IMAGE_DIM)
    one = probe_of(engine, str(toys / "1.png"))
    np.testing.assert_array_equal(one.queries["image"], images.queries["image"][1:2])
    (tmp_path / "classes").mkdir()
    toys.rename(tmp_path / "classes" / "cat")
    labels = probe_of(engine, str(tmp_path / "classes"))
    np.testing.assert_array_equal(labels.queries["image"], images.queries["image"])
    cat = tmp_path / "classes" / "cat"
    (cat / "metadata.jsonl").write_text(
        "\n".join(json.dumps({"file_name": f"{at}.png", "captions": [f"{at}", "dog"]}) for at in range(3))
    )
    pairs = probe_of(engine, str(cat))
    assert pairs.queries["text"].shape == (6, TEXT_DIM)
    np.testing.assert_array_equal(pairs.queries["image"], images.queries["image"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputRefused):
        probe_of(engine, str(tmp_path / "none"))
    with pytest.raises(UsageError):
        probe_of(engine, str(tmp_path / "nowhere"))


# ---- the command line


@pytest.fixture
def run(cli: Cli, store: Path) -> Cli:
    return partial(cli, "anchors", "audit", "planted", "--home", store, "--near", NEAR)


def test_the_folder_has_a_page_json_and_ids(run: Cli, tmp_path: Path, audited: Audited) -> None:
    ran = run("--out", tmp_path / "out")
    assert ran.code == 0
    out = tmp_path / "out"
    results = json.loads((out / "audit.json").read_text())
    names = {f"{kind.replace('_', '-')}.txt" for kind in KINDS}
    assert {file.name for file in out.iterdir()} == {"audit.json", "audit.html", *names}
    for finding, about in zip(audited.findings, results["findings"], strict=True):
        assert Path(about["ids_file"]).read_text().split() == audited.ids(finding)
        assert about["command"] in ran.out
    assert "Image and caption disagree" in ran.out and "written to" in ran.err
    (tmp_path / "out" / "same-pair.txt").write_text("stale")
    assert run("--out", out, "--sample", 5, "--json").code == 0
    assert (out / "same-pair.txt").read_text() == "p0364\n"


def test_the_commands_act(cli: Cli, faults: Planted, tmp_path: Path) -> None:
    faults.build(tmp_path / "home")
    again = partial(cli, "anchors", "audit", "planted", "--home", tmp_path / "home", "--near", NEAR, "--json")
    before = again("--out", tmp_path / "out").json
    for finding in before["findings"]:
        ran = cli(*shlex.split(finding["command"])[1:], "--missing-ok")
        assert ran.code == 0, ran.err
    after = again("--out", tmp_path / "out").json
    assert [finding["anchors"] for finding in after["findings"]] == [0] * len(KINDS)
    assert [finding["command"] for finding in after["findings"]] == [None] * len(KINDS)
    assert not list((tmp_path / "out").glob("*.txt"))


def test_json_is_one_object_and_needs_no_folder(run: Cli, audited: Audited) -> None:
    ran = run("--json")
    (line,) = ran.lines
    mine = json.loads(json.dumps(audited.as_dict()))
    for each in (line, mine):
        del each["created"]
    assert line.pop("command").startswith("asif anchors audit planted") and line == mine


def test_none_is_said(cli: Cli, home: Path) -> None:
    make_set(home, count=60)
    ran = cli("anchors", "audit", "toy")
    assert ran.code == 0 and "The same pair under several ids         none" in ran.out


def test_what_is_refused(run: Cli, cli: Cli, tmp_path: Path, store: Path) -> None:
    ran = run("--pairs", tmp_path)
    assert ran.code == 2 and "--out" in ran.err
    ran = run("--out", tmp_path / "out", "--pairs", tmp_path / "nowhere")
    assert ran.code == 2 and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert run("--out", tmp_path / "file").code == 2
    assert run("--near", 1.5).code == 2
    assert cli("anchors", "audit", "nothing", "--home", store).code != 0
    assert run("--probe", tmp_path / "nowhere").code == 2


def test_ids_that_a_file_cannot_hold_are_left_out(cli: Cli, home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    names = ["a", "b\na", "c", *(f"p{at}" for at in range(30))]
    records = [
        PairRecord(name, ("x",) if at < 3 else (f"{at}",), sha256(f"{max(at, 2)}")) for at, name in enumerate(names)
    ]
    sides = [Embeddings.from_raw(random.standard_normal((33, dim)) + 1).values for dim in DIMS]
    publish(home, "odd", records, *sides)
    ran = cli("anchors", "audit", "odd", "--out", tmp_path / "out")
    assert ran.code == 0 and "1 ids with line breaks" in ran.err
    assert (tmp_path / "out" / "same-pair.txt").read_text() == "c\n"


def test_precomputed_sets_and_probes(cli: Cli, home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "v", home, count=60)
    ran = cli(
        "anchors", "audit", "vectors", "--probe", tmp_path / "v", "--out", tmp_path / "o", "--pairs", tmp_path / "v"
    )
    assert ran.code == 0, ran.err
    assert "60 of 60 images of the probe are anchors too" in ran.err and "are not in" in ran.err
    assert json.loads((tmp_path / "o" / "audit.json").read_text())["usage"]["text"]["queries"] == 60


# ---- real pairs


@pytest.mark.realdata
def test_shuffled_captions_of_real_pairs_are_found(realdata: Path, tmp_path: Path) -> None:
    folder, count = realdata / "flickr8k" / "features", 1500
    images = np.load(folder / "train-image-lite0.npy", mmap_mode="r")[:count].astype(np.float32)
    texts = np.load(folder / "train-text-minilm.npy", mmap_mode="r")[:count].astype(np.float32).mean(axis=1)
    wrong = np.random.default_rng(1).permutation(count)[: count // 20]
    texts[wrong] = texts[np.roll(wrong, 1)]
    records = [PairRecord(f"p{at:04d}", (f"{at}",), sha256(f"{at}")) for at in range(count)]
    publish(tmp_path, "real", records, *(Embeddings.from_raw(side).values for side in (images, texts)))
    finding = found(audit(Engine("real", home=tmp_path)), "disagreement")
    right = np.isin(finding.removable, wrong)
    assert right[:20].all() and right.mean() > 0.6
    assert right.sum() / len(wrong) == pytest.approx(finding.figures["random_share"], abs=0.15)
