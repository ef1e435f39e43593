"""Whether the rows of two sets can stand beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.references import first_few
from asif.errors import EncoderMismatch, InputRefused
from asif.vectors import SIDES


def check_alike(first: Manifest, second: Manifest) -> None:
    """Refuse sets whose rows cannot stand beside each other, naming what differs."""
    for side in SIDES:
        one, other = first.encoders[side].fingerprint, second.encoders[side].fingerprint
        if one != other:
            fields = ", ".join(one.differences(other))
            prints = one.digest[:12], other.digest[:12]
            raise EncoderMismatch(
                f"the {side} encoders differ in {fields}: {first.encoders[side].spec} with fingerprint {prints[0]} "
                f"made {first.ref}, {second.encoders[side].spec} with {prints[1]} {second.ref}",
                "sets of the same encoders",
                f"build {second.name} anew with the encoders of {first.name}",
            )
    for what in ("dtype", "captions"):
        mine, theirs = getattr(first, what), getattr(second, what)
        if mine != theirs:
            raise InputRefused(
                f"{first.ref} has {what} {mine}, {second.ref} has {theirs}",
                f"sets of one {what}",
                f"build {second.name} anew with --{what} {mine}",
            )


def refuse_conflicts(conflicts: Sequence[str], where: str, fix: str) -> None:
    """Refuse ids that stand for different pairs in different sets."""
    if conflicts:
        raise InputRefused(
            f"{len(conflicts):,} ids stand for other pairs {where}: {first_few(conflicts)}",
            "ids that stand for one pair each",
            fix,
        )
