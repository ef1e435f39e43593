"""Search a gallery: queries, representations of its items, the chance of a score, results with reasons."""
