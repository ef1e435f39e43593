"""Whether the rows of two sets can stand beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from asif.anchorset.opened import AnchorSet
from asif.errors import EncoderMismatch, InputRefused
from asif.vectors import SIDES

SHOWN = 5  # ids in an error


def check_alike(first: AnchorSet, second: AnchorSet) -> None:
    """Refuse sets whose rows cannot stand beside each other, naming what differs."""
    for side in SIDES:
        one, other = first.fingerprint(side), second.fingerprint(side)
        if one != other:
            fields = ", ".join(one.differences(other))
            prints = one.digest[:12], other.digest[:12]
            raise EncoderMismatch(
                f"the {side} encoders differ in {fields}: {first.encoder_spec(side)} with fingerprint {prints[0]} "
                f"made {first.ref}, {second.encoder_spec(side)} with {prints[1]} {second.ref}",
                "sets of the same encoders",
                f"build {second.name} anew with the encoders of {first.name}",
            )
    for what in ("dtype", "captions"):
        mine, theirs = getattr(first.manifest, what), getattr(second.manifest, what)
        if mine != theirs:
            raise InputRefused(
                f"{first.ref} has {what} {mine}, {second.ref} has {theirs}",
                f"sets of one {what}",
                f"build {second.name} anew with --{what} {mine}",
            )


def refuse_conflicts(conflicts: Sequence[str], where: str, fix: str) -> None:
    """Refuse ids that stand for different pairs in different sets."""
    if conflicts:
        some = ", ".join(map(repr, conflicts[:SHOWN])) + (", …" if len(conflicts) > SHOWN else "")
        raise InputRefused(
            f"{len(conflicts):,} ids stand for other pairs {where}: {some}", "ids that stand for one pair each", fix
        )
