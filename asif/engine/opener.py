"""Which anchors a call is answered with: the served ones, or those that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from asif.aligners import Aligner, Hubness
from asif.anchorset import AnchorSet, OpenAnchors, PairFilter, Store, open_view
from asif.anchorset.format.fit_cache import hash_anchors
from asif.anchorset.format.references import parse_union
from asif.encoders import Device
from asif.engine.aligner_choice import choose
from asif.engine.build import open_anchors
from asif.engine.encoder_pool import Encoders
from asif.engine.snapshots import Role, Serving
from asif.errors import NotFound
from asif.kernels import KernelName as Kernel
from asif.tuning import TASKS, Task


@dataclass(frozen=True)
class Opener:
    """Open anchors of a store as an engine serves them: with these aligners, and encoders that made them."""

    home: Path
    aligner: Aligner | None
    hubness: Hubness | None
    kernel: Kernel
    device: Device
    encoders: Encoders
    mapped: WeakValueDictionary[tuple[str, str], AnchorSet] = field(default_factory=WeakValueDictionary)

    def open(self, ref: str, mask: PairFilter) -> Serving:
        """Open what a reference, or a union of some, means now, without the pairs that a mask leaves out."""
        members = [self._set(part) for part in parse_union(ref)]
        return self._serve(members, mask, tuple(member.exactly for member in members))

    def _set(self, ref: str) -> AnchorSet:
        """Open a set; one that is open already is not mapped a second time, so that devices hold its blocks once."""
        fresh = open_anchors(ref, home=self.home, device=self.device)
        return self.mapped.setdefault((fresh.exactly, hash_anchors(fresh.manifest)), fresh)

    def _serve(self, members: Sequence[AnchorSet], mask: PairFilter, exactly: tuple[str, ...]) -> Serving:
        """Choose what answers with the pairs of sets; check that the loaded encoders made them."""
        anchors: OpenAnchors = members[0] if len(members) == 1 and not mask else open_view(members, mask)
        self.encoders.check(anchors)
        roles: dict[Task, Role] = {
            task: Role(choose(anchors, task, self.aligner, self.hubness), anchors, self.kernel) for task in TASKS
        }
        return Serving(anchors, exactly, mask, roles)

    def asked(self, serving: Serving, ref: str | None, mask: PairFilter) -> Serving:
        """Return what a call is answered with: the served anchors, or others, which are kept beside them.

        A mask without a reference is one on the served anchors, besides their own. An alias means what it means now.
        """
        if ref is None and not mask:
            return serving
        exactly = serving.exactly if ref is None else self._resolved(ref)
        mask = serving.mask & mask if ref is None else mask
        if (exactly, mask) == (serving.exactly, serving.mask):
            return serving
        found = serving.views.find((ref, mask))
        if found is None or found.exactly != exactly:
            with serving.opening:  # once, whoever asks
                found = serving.views.find((ref, mask))
                if found is None or found.exactly != exactly:
                    members = serving.members
                    found = self._serve(members, mask, serving.exactly) if ref is None else self.open(ref, mask)
                    serving.views.keep((ref, mask), found)
        return found

    def _resolved(self, ref: str) -> tuple[str, ...] | None:
        """Return the versions that a reference means now; None where opening it may have to make one first."""
        store = Store(self.home)
        try:
            return tuple(store.resolve(part) for part in parse_union(ref))
        except NotFound:
            return None
