"""Small sounds, and tiny audio models of random weights saved as folders, for tests without a network."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000


def make_tone(hertz: float, seconds: float = 1.0, rate: int = RATE, level: float = 0.3) -> Any:
    """Return a tone with a little noise, the same every time: [n] float64."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(round(hertz)).standard_normal(len(time))
    return level * np.sin(2 * np.pi * hertz * time) + 0.003 * noise


def write_sound(samples: Any, rate: int = RATE, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Encode samples [n] or [n, channels] as a file."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence what extractors say about bands in which no frequency lies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_tiny_clap(folder: Path, fused: bool = False, audio_only: bool = False) -> Path:
    """Save a CLAP with both towers, or its audio model alone, and its feature extractor."""
    import torch
    from transformers import (
        ClapAudioConfig,
        ClapAudioModel,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapTextConfig,
    )

    torch.manual_seed(0)
    audio = ClapAudioConfig(
        window_size=4,
        num_mel_bins=64,
        spec_size=64,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        patch_embeds_hidden_size=8,
        hidden_size=16,
        projection_dim=12,
        enable_fusion=fused,
        num_hidden_layers=2,
    )
    text = ClapTextConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        projection_dim=12,
    )
    model = (
        ClapAudioModel(audio)
        if audio_only
        else ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12))
    )
    model.save_pretrained(folder)
    crop = "fusion" if fused else "rand_trunc"
    with _without_warnings():
        extractor = ClapFeatureExtractor(sampling_rate=RATE, max_length_s=2, hop_length=512, truncation=crop)
    extractor.save_pretrained(folder)
    return folder


def save_tiny_whisper(folder: Path) -> Path:
    """Save a Whisper of two-second windows."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60,
        num_mel_bins=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=100,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(folder)
    return folder


def save_tiny_hubert(folder: Path, masked: bool = False) -> Path:
    """Save a HuBERT; one that was trained with a mask has layer norms in its convolutions."""
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8, 8],
        conv_kernel=[400, 4],
        conv_stride=[160, 2],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer" if masked else "group",
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)
    return folder


def save_tiny_ast(folder: Path) -> Path:
    """Save an AST."""
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=1024,
        num_mel_bins=128,
        frequency_stride=64,
        time_stride=64,
    )
    ASTModel(config).save_pretrained(folder)
    with _without_warnings():
        extractor = ASTFeatureExtractor()
    extractor.save_pretrained(folder)
    return folder
