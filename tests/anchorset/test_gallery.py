"""An opened gallery: what it gives is what was stored, and a gallery is no anchor set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.galleries import build, galleries, some_files, write_files

import asif
from asif.anchorset import Gallery, Store
from asif.anchorset.format.manifest import Manifest
from asif.errors import IntegrityError, NotFound, UsageError
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS
from asif.pairs.records import read_records, read_row_groups


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    write_files(tmp_path / "photos", some_files(5))
    build(tmp_path / "photos", tmp_path).opened.close()
    return asif.Gallery("g", home=tmp_path)


def test_rows_are_in_the_order_of_ids(gallery: Gallery, tmp_path: Path) -> None:
    assert gallery.ids == ["even/000.jpg", "even/002.jpg", "even/004.jpg", "odd/001.jpg", "odd/003.jpg"]
    assert gallery.uris == [str(tmp_path / "photos" / name) for name in gallery.ids]
    assert [item.id for item in gallery.records([4, 0])] == ["odd/003.jpg", "even/000.jpg"]
    assert [block.shape for block in gallery.vectors] == [(5, 6)] and not gallery.vectors[0].flags.owndata
    np.testing.assert_allclose(np.linalg.norm(gallery.vectors[0].astype(np.float64), axis=1), 1, atol=1e-3)
    assert (gallery.dim, gallery.side, gallery.dtype, gallery.encoder_spec) == (6, "image", "float16", "timm:fake")


def test_filters(gallery: Gallery) -> None:
    assert gallery.where("label = 'odd' and not id like '%003%'").tolist() == [3]
    assert gallery.where("uri like '%/even/%'").tolist() == [0, 1, 2]
    assert gallery.where("caption = 'x'").tolist() == []
    with pytest.raises(UsageError, match="id, source, licence, url, caption, uri, label"):
        gallery.where("size = '7'")


@pytest.mark.parametrize(
    "expression",
    [
        "label = 'odd' or uri like '%4.jpg'",
        "not licence = 'cc0' and license != 'x'",
        "id in ('even/002.jpg', 'odd/001.jpg') and not url like '%'",
        "source = '' or caption != 'x'",
    ],
)
def test_a_filter_over_columns_is_one_over_items(
    gallery: Gallery, expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gallery.select(parse_where(expression, ITEM_FIELDS)).tolist()
    assert gallery.where(expression).tolist() == expected and expected
    monkeypatch.setattr("asif.anchorset.gallery._MOST_VERDICTS", 0)
    assert gallery.where(expression).tolist() == expected


def test_what_notebooks_show(gallery: Gallery) -> None:
    assert repr(gallery) == f"<Gallery g@{gallery.version}: 5 images>"
    assert "<td>timm:fake, 6 dimensions</td>" in gallery._repr_html_()
    assert gallery.ref == "g@1" and gallery.version.endswith(gallery.digest[:12])


@pytest.mark.parametrize("rows_per_group", [1, 7, 64])
def test_a_few_items_are_read_without_the_others(
    tmp_path: Path, rows_per_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.pairs.records._ITEMS_PER_GROUP", rows_per_group)
    write_files(tmp_path / "photos", some_files(40))
    build(tmp_path / "photos", tmp_path).opened.close()
    monkeypatch.setattr("asif.anchorset.format.anchor_set.load_pair_table", pytest.fail)
    gallery, rows = asif.Gallery("g", home=tmp_path), [38, 0, 7, 6, 7]
    (table,) = (tmp_path / "galleries/g/pairs").glob("*")
    assert read_row_groups(table) == [min(rows_per_group, 40 - at) for at in range(0, 40, rows_per_group)]
    items = read_records(table)
    assert gallery.records(rows) == [items[row] for row in rows]
    content = bytearray(table.read_bytes())
    content[100] ^= 1
    table.write_bytes(content)
    with pytest.raises(IntegrityError, match="has sha256"):
        asif.Gallery("g", home=tmp_path).records(rows)


def test_a_closed_gallery(gallery: Gallery) -> None:
    with gallery:
        assert gallery.verify().problems == ()
    with pytest.raises(ValueError, match="the gallery g@1 is closed"):
        gallery.records([0])


def test_a_gallery_is_no_anchor_set(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no anchor set 'g'"):
        Store(tmp_path).open("g")
    with pytest.raises(UsageError, match="of the kind gallery"):
        asif.verify(tmp_path / "galleries" / "g")
    assert Store(tmp_path).sets() == [] and [entry.name for entry in galleries(tmp_path).sets()] == ["g"]
    by_path = asif.Gallery(str(tmp_path / "galleries" / "g"))
    assert by_path.digest == gallery.digest


def test_a_manifest_of_a_gallery_round_trips(gallery: Gallery) -> None:
    manifest = gallery.opened.manifest
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data, "here") == manifest and b'"kind":"gallery"' in data
    assert b'"features":["gallery"]' in data and b'"dims":{"image":6}' in data
    for wrong in (data.replace(b'"image":6', b'"image":6,"text":6'), data.replace(b'"kind":"gallery",', b"")):
        with pytest.raises(IntegrityError):
            Manifest.from_bytes(wrong, "here")
