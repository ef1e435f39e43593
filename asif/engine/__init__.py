"""The wiring: anchor set + encoders + aligner -> the verbs; hot swap."""

from asif.engine.answering import Credits, Evidence, Prediction, Result
from asif.engine.choosing import Choice, named_aligner
from asif.engine.classifier import Classifier
from asif.engine.editing import add_pairs, merge_anchors, subset_anchors
from asif.engine.opening import DEFAULT_ANCHORS, build_anchors, build_from_head, build_from_recipe, open_anchors
from asif.engine.selecting import select_anchors
from asif.engine.serving import Engine
from asif.engine.trained import trained_before
from asif.engine.training import Training, train_projector
from asif.engine.training_tokens import train_on_tokens
from asif.engine.tuner import tune_anchors
from asif.engine.unlearning import purge_pairs, verify_removal
from asif.engine.vectors_file import read_vectors
from asif.engine.watching import Watched

__all__ = [
    "DEFAULT_ANCHORS",
    "Choice",
    "Classifier",
    "Credits",
    "Engine",
    "Evidence",
    "Prediction",
    "Result",
    "Training",
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
    "trained_before",
    "train_on_tokens",
    "train_projector",
    "select_anchors",
    "subset_anchors",
    "tune_anchors",
    "verify_removal",
]
