"""The choice of a profile for an anchor set: aligner, parameters, correction, fusion; from held-out anchors alone."""

from asif.tuning.criteria import TASKS, Task
from asif.tuning.search import CRITERIA, Trial, Tuned, tune

__all__ = ["CRITERIA", "TASKS", "Task", "Trial", "Tuned", "tune"]
