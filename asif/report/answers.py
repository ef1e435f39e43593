"""The answers of an engine as fields for JSON: the same for the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from asif.engine import Classification, Credits, Engine
from asif.engine.predict import Evidence
from asif.engine.search.results import HubUsed, SearchAnswer, SearchEvidence, SearchResult
from asif.tuning import Task


def describe_task(engine: Engine, task: Task) -> dict[str, Any]:
    """Describe how an engine does a task: aligner, parameters, hubness correction, and their profile."""
    fitted_task = engine.role(task)
    choice = fitted_task.choice
    found: dict[str, Any] = {"aligner": choice.aligner.name, "parameters": fitted_task.fitted.parameters}
    if choice.hubness.method != "none":
        found["hubness"] = choice.hubness.parameters
    if choice.profile is not None:
        found["profile"] = choice.profile
    return found


def describe_classification(
    result: Classification, name: str, settings: Mapping[str, Any], modality: str = "image"
) -> dict[str, Any]:
    """Describe the labels of one image, or sound, or why it cannot be read; `settings` say how they were found.

    Its name has the modality as its key.
    """
    if result.error is not None:
        return {modality: name, "error": result.error.came}
    assert result.anchors is not None
    found: dict[str, Any] = {
        modality: name,
        "predictions": [{"label": each.label, "score": each.score} for each in result.predictions],
        "anchors": result.anchors.as_dict(),
        **settings,
        "timings_ms": _round_timings(result.timings_ms),
    }
    if result.evidence is not None:
        found["explanation"] = _describe_evidence(result)
    if result.credits is not None:
        found["credits"] = _describe_credits(result.predictions[0].label, result.credits)
    return found


def _round_timings(timings: Mapping[str, float]) -> dict[str, float]:
    return {step: round(ms, 3) for step, ms in timings.items()}


def _describe_evidence(result: Classification) -> dict[str, Any]:
    assert result.evidence is not None
    split = result.evidence.contributions
    explanation = {
        "label": result.predictions[0].label,
        "score": split.score,
        "contributions": [
            {"id": record.id, "captions": list(record.captions), "contribution": float(value), **span}
            for record, value, span in zip(
                result.evidence.records, split.values, _describe_spans(result.evidence), strict=True
            )
        ],
        "remainder": split.remainder,
        "others": split.others,
    }
    return explanation | ({"hubness": -result.evidence.hubness} if result.evidence.hubness else {})


def _describe_spans(evidence: Evidence | SearchEvidence) -> list[dict[str, Any]]:
    """Describe the file and the seconds of each anchor that is a sound, as far as they are known."""
    spans = evidence.spans or [None] * len(evidence.records)
    return [{} if span is None else {"clip": span.clip, "seconds": [span.start, span.stop]} for span in spans]


def _describe_credits(label: str, credits: Credits) -> dict[str, Any]:
    pairs = [
        {"id": pair.id, "source": pair.source, "licence": pair.licence, "url": pair.url} for pair in credits.records
    ]
    return {"label": label, "pairs": pairs, "others": credits.others}


def describe_search_answer(answer: SearchAnswer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the results of one query, or why it cannot be read; `aligner` is null where none was used."""
    found: dict[str, Any] = {"query": str(answer.query)}
    if answer.error is not None:
        return {**found, "error": answer.error.came}
    return {
        **found,
        "results": [_describe_result(result, answer) for result in answer.results],
        "searched": answer.searched,
        "relevant": answer.relevant,
        "space": answer.space,
        **({} if answer.recall is None else {"recall": round(answer.recall, 4)}),
        "gallery": answer.gallery.as_dict(),
        "anchors": answer.anchors.as_dict(),
        **(settings if answer.space == "shared" else {"aligner": None}),
        **({} if answer.hub is None else {"via": _describe_hub(answer.hub)}),
        "timings_ms": _round_timings(answer.timings_ms),
    }


def _describe_hub(hub: HubUsed) -> dict[str, Any]:
    loss = {} if hub.loss is None else {"loss": asdict(hub.loss)}
    return {"anchors": hub.anchors.as_dict(), "captions": list(hub.captions), **loss}


def _describe_result(result: SearchResult, answer: SearchAnswer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": result.id,
        "uri": result.uri,
        "score": result.score,
        "chance": float(f"{result.chance:.3g}"),
    }
    if result.evidence is not None:
        found["explanation"] = _describe_reasons(result.evidence, answer)
    return found


def _describe_reasons(evidence: SearchEvidence, answer: SearchAnswer) -> dict[str, Any]:
    split = evidence.contributions
    explanation: dict[str, Any] = {
        "contributions": [
            {
                "id": record.id,
                "captions": list(record.captions),
                "source": record.source,
                "licence": record.licence,
                "url": record.url,
                "contribution": float(value),
                **span,
            }
            for record, value, span in zip(evidence.records, split.values, _describe_spans(evidence), strict=True)
        ],
        "remainder": split.remainder,
        "others": split.others,
        "parts": [
            {"part": str(part), "weight": part.weight, "contribution": value}
            for part, value in zip(answer.query.parts, evidence.parts, strict=True)
        ],
    }
    return explanation | ({"hubness": -evidence.hubness} if evidence.hubness else {})
