"""What the findings of an audit are called, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "disagreement": "Image and caption disagree",
    "same_pair": "The same pair under several ids",
    "same_image": "The same image with different captions",
    "same_embedding": "Different files, the same embedding",
    "near_image": "Near duplicates",
    "hub": "Used by far too many queries",
    "never_used": "Never used",
    "shared_caption": "Captions shared by many images",
}
ADVICE = {
    "disagreement": "Look at them: most are wrong, some are only unusual. Remove the wrong ones.",
    "same_pair": "Nothing is lost with them: the first of each stays.",
    "same_image": "The command keeps the first of each; asif anchors update can give it all the captions.",
    "same_embedding": "The command keeps the first of each group.",
    "near_image": "Look at them; the command keeps the first of each group.",
    "hub": "Look at them: blank, blurred or generic ones can go.",
    "never_used": "They cost memory and time and change no answer to such queries.",
    "shared_caption": "The command removes pairs that have no caption of their own, but for the first of each.",
}


def file_of(kind: str) -> str:
    """Return the name of the file with the ids of a finding.

    >>> file_of("same_pair")
    'same-pair.txt'
    """
    return f"{kind.replace('_', '-')}.txt"


def figures_of(results: Mapping[str, Any], finding: Mapping[str, Any]) -> list[str]:
    """Say in sentences what the figures of a finding as a whole are."""
    if finding["kind"] == "disagreement" and finding["judged"]:
        return about_disagreement(finding)
    if finding["kind"] in ("hub", "never_used"):
        return [about_usage(side, each, finding["kind"]) for side, each in results["usage"].items()]
    return []


def about_disagreement(finding: Mapping[str, Any]) -> list[str]:
    """Say how many neighbours pairs share, and how much of what is wrong can be found."""
    share, typical = finding["random_share"], finding["typical"]
    said = [
        f"{finding['judged']:,} pairs were judged. They share {finding['shared_on_average']:.1f} of {finding['k']} "
        f"neighbours on average, pairs put together at random {finding['random_shared_on_average']:.1f}.",
        f"Of pairs put together at random {100 * share:.0f} % share none: about so many of the wrong pairs are found, "
        "the others are not.",
    ]
    if None not in typical.values():
        said.append(
            f"Likeness counts standard deviations above likeness to anybody: {typical['image']:.1f} (image) and "
            f"{typical['text']:.1f} (caption) for pairs that agree, about 0 for unrelated ones."
        )
    return said


def about_usage(side: str, usage: Mapping[str, Any], kind: str) -> str:
    """Say how anchors are used on one side."""
    start = f"{side.capitalize()} side: {usage['queries']:,} queries, {usage['k']:,} anchors each;"
    if kind == "never_used":
        return f"{start} {usage['unused']:,} unused, {usage['unused_by_chance']:,.1f} would be with even use."
    return (
        f"{start} an anchor is used by {usage['mean']:,.1f} on average, by {usage['most']:,} at most; "
        f"skewness {usage['skewness']:.2f} (0: all alike), a hub from {usage['hub_from']:,}."
    )
