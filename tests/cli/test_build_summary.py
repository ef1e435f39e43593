"""The summary of a build: seconds, rates, the share of each stage, and which of them bounds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.build_fakes import FakeImages, FakeTexts, build_set, list_source, some_rows, write_parquet
from support.running import Cli

from asif.anchorset import Store
from asif.building import BuildResult
from asif.building.clock import EncoderClock
from asif.cli.build_summary import describe_item_stages, describe_stages, summarise_stages

SECONDS = {"read": 1.0, "decode": 24.0, "encode_images": 71.0, "encode_texts": 25.0, "write": 1.4}


@pytest.fixture
def built(tmp_path: Path) -> BuildResult:
    anchors = build_set(list_source(*some_rows(2)), tmp_path).anchors
    clock = EncoderClock(7100, 10_000, 0, decoders=2, seconds=dict(SECONDS), encoder_seconds=96.0)  # type: ignore[arg-type]
    return BuildResult(anchors, 10, 0, 100.0, clock)


def test_the_terminal_tells_every_share_and_what_bounds_the_build(built: BuildResult) -> None:
    assert describe_stages(built).splitlines() == [
        "  100.0 s, 100 images/s, 400 captions/s",
        "  encoders 96% (images 71%, captions 25%), decoding 12% on 2 threads, reading 1%, writing 1%: "
        "encoding images bounds the build",
    ]
    built.clock.seconds["decode"] = 150.0
    assert describe_stages(built).endswith(
        "decoding 75% on 2 threads, reading 1%, writing 1%: decoding bounds the build"
    )


def test_a_build_without_encoders_has_no_rates(built: BuildResult) -> None:
    built.clock.seconds.update(encode_images=0.0, encode_texts=0.0, read=30.0)
    built.clock.encoder_seconds = 0.0
    assert describe_stages(built).startswith("  100.0 s\n  encoders 0% (images 0%, captions 0%)")
    assert describe_stages(built).endswith(": reading bounds the build")


def test_a_run_with_one_encoder(built: BuildResult) -> None:
    built.clock.seconds.update(encode_images=0.0)
    built.clock.encoder_seconds = 25.0
    assert describe_item_stages(built, "text").splitlines() == [
        "  100.0 s, 10,000 encoded, 400 texts/s",
        "  encoder 25%, decoding 12% on 2 threads, reading 1%, writing 1%: encoding texts takes the longest",
    ]


def test_json_has_the_shares(built: BuildResult) -> None:
    assert summarise_stages(built) == {
        "seconds": 100.0,
        "encoder_share": 0.96,
        "stages": {"read": 0.01, "decode": 0.12, "encode_images": 0.71, "encode_texts": 0.25, "write": 0.014},
        "decoders": 2,
        "slowest_stage": "encode_images",
    }


def test_add_tells_the_shares_of_what_it_encoded(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: FakeImages())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: FakeTexts())
    rows = some_rows(20)
    build_set(list_source(*rows[:10]), home)
    new = rows[10:]
    path = write_parquet(tmp_path / "p.parquet", [r[1] for r in new], [r[2] for r in new], id=[r[0] for r in new])
    ran = cli("anchors", "add", "toy", path, "--json")
    assert ran.code == 0, ran.err
    assert Store(home).open("toy").count == 20
    assert list(ran.json["stages"]) == list(SECONDS)
    assert ran.json["stages"][ran.json["slowest_stage"]] == max(ran.json["stages"].values())
    again = cli("anchors", "update", "toy", path)
    assert again.code == 0 and "bounds the build" in again.out
