"""Audit an anchor set: copies, near copies, pairs that disagree, anchors that nothing uses or everything does.

>>> from asif.engine import Engine
>>> found = audit(Engine("coco"))  # doctest: +SKIP
>>> {each["kind"]: each["anchors"] for each in found["findings"]}  # doctest: +SKIP
{'disagreement': 150, 'same_pair': 2, ...}
"""

from asif.evaluate.audit.probe import Probe, probe_of
from asif.evaluate.audit.result import KINDS, Audited
from asif.evaluate.audit.run import Terms, audit

__all__ = ["KINDS", "Audited", "Probe", "Terms", "audit", "probe_of"]
