"""Frozen encoders by name: `timm:…`, `sentence-transformers:…`, `embedded:…`, `open-clip:…`, `precomputed`."""

from asif.encoders.load import DEFAULT, check_spec, load_head, load_image_encoder, load_text_encoder, synset_names
from asif.encoders.protocol import Head, ImageEncoder, ImageSource, TextEncoder, encode_images, encode_texts
from asif.encoders.torch_common import Device

__all__ = [
    "DEFAULT",
    "Device",
    "Head",
    "ImageEncoder",
    "ImageSource",
    "TextEncoder",
    "check_spec",
    "encode_images",
    "encode_texts",
    "load_head",
    "load_image_encoder",
    "load_text_encoder",
    "synset_names",
]
