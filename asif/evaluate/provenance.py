"""What is needed to repeat an evaluation: anchors, encoders, aligner, prompts, data, versions of libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from asif.anchorset import OpenAnchors
from asif.engine import Engine
from asif.pairs import PairSource
from asif.tuning import Task
from asif.vectors import SIDES
from asif.version import VERSION

_LIBRARIES = ("torch", "timm", "sentence-transformers", "numpy")


@dataclass(frozen=True)
class EncoderUsed:
    """Name an encoder, and the fingerprint of its weights and preprocessing."""

    spec: str
    fingerprint: str


@dataclass(frozen=True)
class AnchorsUsed:
    """Name a version of an anchor set; `selection` are the conditions by which pairs were left out, if any."""

    name: str
    version: str
    digest: str
    count: int
    selection: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; the conditions are among its keys."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            **self.selection,
            "count": self.count,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnchorsUsed:
        """Read the JSON object.

        >>> AnchorsUsed.from_json({"name": "a", "version": "1", "digest": "d", "where": "x = 1", "count": 2}).selection
        {'where': 'x = 1'}
        """
        own = ("name", "version", "digest", "count")
        selection = {key: each for key, each in value.items() if key not in own}
        return cls(**{key: value[key] for key in own}, selection=selection)


@dataclass(frozen=True)
class AnchorOrigin:
    """Hold an anchor set and the encoders that made it."""

    anchors: AnchorsUsed
    image: EncoderUsed
    text: EncoderUsed

    @property
    def ref(self) -> str:
        """Return `name@version`."""
        return f"{self.anchors.name}@{self.anchors.version}"

    @property
    def model(self) -> str:
        """Return both encoders, as CLIP_benchmark names a model."""
        return f"{self.image.spec}+{self.text.spec}"

    def to_json(self) -> dict[str, Any]:
        """Return two entries of a JSON object: `anchors` and `encoders`."""
        return {
            "anchors": self.anchors.to_json(),
            "encoders": {"image": asdict(self.image), "text": asdict(self.text)},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnchorOrigin:
        """Read `anchors` and `encoders` of a JSON object."""
        image, text = (EncoderUsed(**value["encoders"][side]) for side in SIDES)
        return cls(AnchorsUsed.from_json(value["anchors"]), image, text)


@dataclass(frozen=True)
class EngineUsed:
    """Hold what made the predictions: anchors, encoders, aligner, hubness correction, and the profile they come from.

    `parameters` are the aligner's, `hubness` the correction's with its `method`.
    """

    origin: AnchorOrigin
    aligner: str
    parameters: Mapping[str, Any]
    hubness: Mapping[str, Any]
    profile: Any

    @property
    def pretrained(self) -> str:
        """Return aligner, correction and anchors, as CLIP_benchmark names pretrained weights."""
        method = self.hubness["method"]
        correction = "" if method == "none" else f"+{method}"
        return f"{self.aligner}{correction} {self.origin.ref}"

    def to_json(self) -> dict[str, Any]:
        """Return entries of a JSON object."""
        return {
            **self.origin.to_json(),
            "aligner": self.aligner,
            "parameters": self.parameters,
            "hubness": self.hubness,
            "profile": self.profile,
        }


@dataclass(frozen=True)
class DataUsed:
    """Identify the data of an evaluation: path, size and hashes; `rows_sha256` covers the rows that were used."""

    path: str
    kind: str
    files: int
    bytes: int
    rows: int
    columns: Mapping[str, str]
    sha256: str
    rows_sha256: str


@dataclass(frozen=True)
class PromptsUsed:
    """Hold the templates of prompts, how they are combined, and the sources of templates and class names."""

    templates: tuple[str, ...]
    template_mode: str
    origins: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return entries of a JSON object."""
        return {"templates": list(self.templates), "template_mode": self.template_mode, **self.origins}


def read_library_versions() -> dict[str, str]:
    """Return the versions of asif and of the libraries that it computes with."""
    return {"asif": VERSION, **{name: metadata.version(name) for name in _LIBRARIES}}


def describe_anchors_used(anchors: OpenAnchors) -> AnchorOrigin:
    """Return which anchors these are, and which encoders made them."""
    named = anchors.named
    used = AnchorsUsed(named.name, named.version, named.digest, anchors.count, named.pair_filter.as_dict())
    image, text = (EncoderUsed(anchors.encoder_spec(side), anchors.fingerprint(side).digest) for side in SIDES)
    return AnchorOrigin(used, image, text)


def describe_engine_used(engine: Engine, anchors: OpenAnchors, task: Task) -> EngineUsed:
    """Return what an engine predicts with: anchor set, encoders, aligner, hubness correction, profile."""
    role = engine.role(task)
    return EngineUsed(
        origin=describe_anchors_used(anchors),
        aligner=role.choice.aligner.name,
        parameters=role.fitted.parameters,
        hubness=role.choice.hubness.parameters,
        profile=role.choice.profile,
    )


def describe_data_used(source: PairSource, rows_sha256: str) -> DataUsed:
    """Return what identifies the data, so that they can be distinguished from any other."""
    return DataUsed(
        path=os.fsencode(str(source.path.absolute())).decode(errors="replace"),
        kind=source.kind,
        files=len(source.files),
        bytes=source.bytes,
        rows=source.rows,
        columns=source.columns.by_role(),
        sha256=source.sha256,
        rows_sha256=rows_sha256,
    )
