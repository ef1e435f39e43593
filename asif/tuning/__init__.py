"""The choice of a profile for an anchor set: aligner, parameters, correction, fusion; from held-out anchors alone."""

from asif.tuning.criteria import TASKS, Task
from asif.tuning.held_out import Captions
from asif.tuning.search import CRITERIA, Trial, Tuned, tune
from asif.tuning.settings import USUAL

__all__ = ["CRITERIA", "TASKS", "USUAL", "Captions", "Task", "Trial", "Tuned", "tune"]
