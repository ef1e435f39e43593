"""Evaluation on data sets: metrics, and what is needed to repeat them; comparison of methods and encoders; audits."""

from asif.evaluate.class_names import EvaluatedClasses, read_classnames, resolve_classes
from asif.evaluate.classification import evaluate_classification
from asif.evaluate.evaluation import Benchmark, Evaluation
from asif.evaluate.retrieval import evaluate_retrieval
from asif.evaluate.row_reader import RowLimits

__all__ = [
    "EvaluatedClasses",
    "Evaluation",
    "Benchmark",
    "RowLimits",
    "resolve_classes",
    "evaluate_classification",
    "evaluate_retrieval",
    "read_classnames",
]
