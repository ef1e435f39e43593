"""Check that the pairs of two sets can become one set."""

from __future__ import annotations

from collections.abc import Sequence

from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.references import format_first_names
from asif.errors import EncoderMismatch, InputRefused


def check_compatible(first: Manifest, second: Manifest) -> None:
    """Refuse sets whose rows cannot be combined; raises EncoderMismatch or InputRefused, which name what differs."""
    if first.modalities != second.modalities:
        raise EncoderMismatch(
            f"{first.ref} pairs {' and '.join(first.modalities.values())}, {second.ref} pairs "
            f"{' and '.join(second.modalities.values())}",
            "sets of the same modalities",
            "join sets that hold the same; two sets that share texts answer each other by way of them: "
            "asif search G --via OTHER",
        )
    for side in first.sides:
        modality = first.modalities[side]
        one, other = first.encoders[side].fingerprint, second.encoders[side].fingerprint
        if one != other:
            fields = ", ".join(one.differences(other))
            prints = one.digest[:12], other.digest[:12]
            raise EncoderMismatch(
                f"the {modality} encoders differ in {fields}: {first.encoders[side].spec} with fingerprint {prints[0]} "
                f"made {first.ref}, {second.encoders[side].spec} with {prints[1]} {second.ref}",
                "sets of the same encoders",
                f"build {second.name} again with the encoders of {first.name}",
            )
    for what in ("dtype", "captions"):
        mine, theirs = getattr(first, what), getattr(second, what)
        if mine != theirs:
            raise InputRefused(
                f"{first.ref} has {what} {mine}, {second.ref} has {theirs}",
                f"sets of one {what}",
                f"build {second.name} again with --{what} {mine}",
            )


def check_id_conflicts(conflicts: Sequence[str], where: str, fix: str) -> None:
    """Raise InputRefused if ids belong to different pairs in different sets."""
    if conflicts:
        raise InputRefused(
            f"{len(conflicts):,} ids belong to different pairs {where}: {format_first_names(conflicts)}",
            "ids that belong to one pair each",
            fix,
        )
