"""Tuning: chooses aligner, parameters, hubness correction and fusion for an anchor set, from held-out anchors."""

from asif.tuning.criteria import TASKS, Task
from asif.tuning.grid import default_setting
from asif.tuning.scoring import HeldOutScores, HubnessCorrector, compute_query_scores, fit_and_score, score_held_out
from asif.tuning.search import CORRECTIONS, CRITERIA, Trial, TuningResult, is_proven, tune
from asif.tuning.splits import (
    QUICK_CHECK_ROWS,
    AnchorSubset,
    CaptionSampler,
    HeldOutQueries,
    has_repeated_images,
    has_repeated_texts,
    split_folds,
)

__all__ = [
    "CORRECTIONS",
    "CRITERIA",
    "QUICK_CHECK_ROWS",
    "TASKS",
    "CaptionSampler",
    "HeldOutQueries",
    "HeldOutScores",
    "HubnessCorrector",
    "AnchorSubset",
    "Task",
    "Trial",
    "TuningResult",
    "compute_query_scores",
    "fit_and_score",
    "has_repeated_images",
    "has_repeated_texts",
    "is_proven",
    "score_held_out",
    "split_folds",
    "tune",
    "default_setting",
]
