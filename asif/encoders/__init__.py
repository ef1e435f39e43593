"""Frozen encoders by name: `timm:…`, `sentence-transformers:…`, `embedded:…`, `open-clip:…`, joins, `precomputed`."""

from asif.encoders.backends.runtime import Backend
from asif.encoders.load import (
    find_synset_names,
    load_head,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.precision import Precision
from asif.encoders.protocol import (
    ClassifierHead,
    ImageEncoder,
    ImageInput,
    ImageInputs,
    ImageSource,
    TextEncoder,
    encode_images,
    encode_texts,
)
from asif.encoders.spec import DEFAULT_ENCODERS, check_spec
from asif.encoders.torch_common import Device

__all__ = [
    "Backend",
    "DEFAULT_ENCODERS",
    "Device",
    "ClassifierHead",
    "ImageEncoder",
    "ImageInput",
    "ImageInputs",
    "ImageSource",
    "Precision",
    "TextEncoder",
    "check_spec",
    "encode_images",
    "encode_texts",
    "load_head",
    "load_image_encoder",
    "load_text_encoder",
    "find_synset_names",
]
