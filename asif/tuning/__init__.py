"""The choice of a profile for an anchor set: aligner, parameters, correction, fusion; from held-out anchors alone."""

from asif.tuning.criteria import TASKS, Task
from asif.tuning.grid import usual
from asif.tuning.search import CRITERIA, Trial, Tuned, best_correction, tune
from asif.tuning.splits import GLANCE, Captions, Questions, Subset, texts_repeat

__all__ = [
    "CRITERIA",
    "GLANCE",
    "TASKS",
    "Captions",
    "Questions",
    "Subset",
    "Task",
    "Trial",
    "Tuned",
    "best_correction",
    "texts_repeat",
    "tune",
    "usual",
]
