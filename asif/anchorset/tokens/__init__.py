"""Token features of pairs on disk."""
