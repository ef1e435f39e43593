"""Builds: journal, segments, and publication of a version."""
