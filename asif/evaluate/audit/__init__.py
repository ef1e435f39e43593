"""Audit an anchor set: duplicates, pairs that disagree, hubs and unused anchors.

>>> from asif.engine import Engine
>>> result = audit(Engine("coco"))  # doctest: +SKIP
>>> {finding.kind: len(finding.rows) for finding in result.findings}  # doctest: +SKIP
{'disagreement': 150, 'same_pair': 2, ...}
"""

from asif.evaluate.audit.probe import Probe, encode_probe
from asif.evaluate.audit.result import FINDING_KINDS, AuditResult
from asif.evaluate.audit.run import AuditOptions, audit

__all__ = ["FINDING_KINDS", "AuditOptions", "AuditResult", "Probe", "audit", "encode_probe"]
