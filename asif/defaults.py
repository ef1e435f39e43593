"""Defaults that the command line shows in its help and the engine uses; imports nothing."""

DEFAULT_ANCHORS = "imagenet-head"
"""The ready-made anchor set that is used if none is named."""
