"""Fewer anchors, well chosen: each method takes embeddings and returns rows of them, ascending.

None of the choices depends on how rows lie in blocks or on the number of threads: inner products are canonical.
"""

from asif.selection.concepts import concepts, repeated
from asif.selection.kdpp import kdpp
from asif.selection.kmeans import kmeans
from asif.selection.random_ import random

__all__ = ["concepts", "kdpp", "kmeans", "random", "repeated"]
