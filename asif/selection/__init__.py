"""Select some of a set's anchors: each method takes embeddings and returns the chosen rows, ascending.

A choice does not depend on the division into blocks or on the number of threads: inner products are canonical.
"""

from asif.selection.concepts import choose_by_concept_lists, choose_by_concepts, find_repeated_rows
from asif.selection.kdpp import choose_by_kdpp
from asif.selection.kmeans import choose_by_kmeans
from asif.selection.random_ import choose_at_random

__all__ = [
    "choose_by_concept_lists",
    "choose_by_concepts",
    "choose_by_kdpp",
    "choose_by_kmeans",
    "choose_at_random",
    "find_repeated_rows",
]
