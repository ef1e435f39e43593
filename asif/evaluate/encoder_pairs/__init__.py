"""The ranking of encoder pairs by the alignment of their embeddings of the same pairs."""
