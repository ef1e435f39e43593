"""Tuning: chooses aligner, parameters, hubness correction and fusion for an anchor set, from held-out anchors."""

from asif.tuning.criteria import TASKS, Task
from asif.tuning.grid import default_setting
from asif.tuning.search import CRITERIA, Trial, TuningResult, choose_correction, tune
from asif.tuning.splits import (
    QUICK_CHECK_ROWS,
    AnchorSubset,
    CaptionSampler,
    HeldOutQueries,
    has_repeated_images,
    has_repeated_texts,
)

__all__ = [
    "CRITERIA",
    "QUICK_CHECK_ROWS",
    "TASKS",
    "CaptionSampler",
    "HeldOutQueries",
    "AnchorSubset",
    "Task",
    "Trial",
    "TuningResult",
    "choose_correction",
    "has_repeated_images",
    "has_repeated_texts",
    "tune",
    "default_setting",
]
