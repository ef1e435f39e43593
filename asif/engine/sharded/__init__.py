"""Exact search by several workers, each with some rows of a set or of a gallery: the results of one machine."""
