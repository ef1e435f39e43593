"""Evaluation: data sets, metrics and where figures come from; diagnosis of encoder pairs."""

from asif.evaluate.classification import evaluate_classification
from asif.evaluate.classnames import Classes, classes_of, read_classnames
from asif.evaluate.intake import Terms
from asif.evaluate.result import Evaluation, Task
from asif.evaluate.retrieval import evaluate_retrieval

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
