"""Builds by several workers: a plan of shards, each encoded by one worker, published as one version at the end."""
