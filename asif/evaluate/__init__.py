"""Measure an anchor set on labelled data: accuracy of labels, recall of search, with all that made the figures."""

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
