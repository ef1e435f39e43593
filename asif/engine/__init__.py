"""The wiring: anchor set + encoders + aligner -> the verbs; hot swap."""

from asif.engine.aligner_choice import Choice, named_aligner
from asif.engine.build import DEFAULT_ANCHORS, build_anchors, build_from_head, build_from_recipe, open_anchors
from asif.engine.classifier import Classifier
from asif.engine.edit import add_pairs, merge_anchors, subset_anchors
from asif.engine.engine import Engine
from asif.engine.predict import Credits, Evidence, Prediction, Result
from asif.engine.purge import purge_pairs, verify_removal
from asif.engine.select import select_anchors
from asif.engine.tune import tune_anchors
from asif.engine.vector_file import read_vectors
from asif.engine.watcher import Watched

__all__ = [
    "DEFAULT_ANCHORS",
    "Choice",
    "Classifier",
    "Credits",
    "Engine",
    "Evidence",
    "Prediction",
    "Result",
    "Watched",
    "add_pairs",
    "build_anchors",
    "build_from_head",
    "build_from_recipe",
    "merge_anchors",
    "named_aligner",
    "open_anchors",
    "purge_pairs",
    "read_vectors",
    "select_anchors",
    "subset_anchors",
    "tune_anchors",
    "verify_removal",
]
