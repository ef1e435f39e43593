"""Encoders of sounds by name."""

from __future__ import annotations

import pytest

from asif.encoders import check_spec, load_audio_encoder
from asif.encoders.audio.load import parse_audio_spec
from asif.errors import UsageError


@pytest.mark.parametrize(
    "spec", ["clap:laion/clap-htsat-unfused@main", "whisper:a", "hf-audio:./x", "embedded:log-mel"]
)
def test_names_of_the_right_form(spec: str) -> None:
    assert ":".join(parse_audio_spec(spec)) == spec
    check_spec(spec, "audio")


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("clap:", "for example clap:laion/clap-htsat-unfused"),
        ("clip:a/b", "write clap:a/b, if you meant that"),
        ("embedded:efficientnet-lite0", "write embedded:log-mel"),
        ("timm:resnet50", "for example clap:laion/clap-htsat-unfused"),
    ],
)
def test_other_names_are_refused_with_advice(spec: str, advice: str) -> None:
    with pytest.raises(UsageError, match="the audio encoder is") as caught:
        check_spec(spec, "audio")
    assert caught.value.fix == advice


def test_the_one_without_weights_needs_no_model_and_has_no_precision() -> None:
    assert load_audio_encoder("embedded:log-mel").dim == 256
    with pytest.raises(UsageError, match="the precision bfloat16 with embedded:log-mel"):
        load_audio_encoder("embedded:log-mel", precision="bfloat16")
