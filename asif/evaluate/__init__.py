"""Evaluation: data sets, metrics and where figures come from; diagnosis of encoder pairs."""

from asif.evaluate.class_names import Classes, classes_of, read_classnames
from asif.evaluate.classification import evaluate_classification
from asif.evaluate.provenance import Evaluation, Task
from asif.evaluate.retrieval import evaluate_retrieval
from asif.evaluate.row_reader import Terms

__all__ = [
    "Classes",
    "Evaluation",
    "Task",
    "Terms",
    "classes_of",
    "evaluate_classification",
    "evaluate_retrieval",
    "read_classnames",
]
