"""Evaluation: datasets, metrics, head-to-head, diagnosis of encoder pairs."""
