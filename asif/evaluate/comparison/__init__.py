"""The comparison of training-free and trained methods on the same pairs."""
