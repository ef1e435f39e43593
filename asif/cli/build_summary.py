"""How long a build took, and the share of each stage: for the terminal and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asif.modality import name_many

if TYPE_CHECKING:
    from asif.building import BuildResult
    from asif.building.clock import StageTimes
    from asif.vectors import Side

_STAGE_NAMES = {
    "read": "reading",
    "decode": "decoding",
    "encode_images": "encoding images",
    "encode_texts": "encoding captions",
    "write": "writing",
}


def summarise_stages(built: StageTimes) -> dict[str, Any]:
    """Return seconds and shares of a run, JSON-able; without the stages if it read no row."""
    found = {"seconds": round(built.seconds, 2), "encoder_share": round(built.encoder_share, 3)}
    if not built.rows:
        return found
    shares = {stage: round(share, 3) for stage, share in built.stage_shares.items()}
    return {**found, "stages": shares, "decoders": built.clock.decoders, "slowest_stage": built.slowest_stage}


def describe_stages(built: BuildResult) -> str:
    """Return two lines for the terminal: seconds and rates, then the share of each stage and the one that bounds all.

    Stages run at once, so shares may sum to more than 100 %; that of decoding is the mean of its threads.
    """
    clock, shares = built.clock, built.stage_shares
    first = name_many(built.anchors.manifest.modalities["image"])
    images = f", {clock.images / clock.image_seconds:.0f} {first}/s" if clock.image_seconds else ""
    captions = f", {clock.texts / clock.text_seconds:.0f} captions/s" if clock.text_seconds else ""
    return (
        f"  {built.seconds:.1f} s{images}{captions}\n"
        f"  encoders {built.encoder_share:.0%} "
        f"({first} {shares['encode_images']:.0%}, captions {shares['encode_texts']:.0%}), "
        f"{_describe_other_stages(built)}: {_name_stage(built.slowest_stage, first)} bounds the build"
    )


def describe_item_stages(run: StageTimes, side: Side, modality: str | None = None) -> str:
    """Return the two lines of `describe_stages` for a run with the encoder of one side alone."""
    items = name_many(modality or side)
    clock, slowest = run.clock, run.slowest_stage
    count, seconds = (clock.images, clock.image_seconds) if side == "image" else (clock.texts, clock.text_seconds)
    rate = f", {count / seconds:.0f} {items}/s" if seconds else ""
    name = f"encoding {items}" if slowest.startswith("encode") else _STAGE_NAMES[slowest]
    return (
        f"  {run.seconds:.1f} s, {count:,} encoded{rate}\n"
        f"  encoder {run.encoder_share:.0%}, {_describe_other_stages(run)}: {name} takes the longest"
    )


def _name_stage(stage: str, first: str) -> str:
    """Name a stage; `first` names what the first half of pairs is."""
    return _STAGE_NAMES[stage].replace("images", first)


def _describe_other_stages(run: StageTimes) -> str:
    shares = run.stage_shares
    return (
        f"decoding {shares['decode']:.0%} on {run.clock.decoders} threads, "
        f"reading {shares['read']:.0%}, writing {shares['write']:.0%}"
    )
