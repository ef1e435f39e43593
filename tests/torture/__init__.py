"""Torture: what a store promises, tried with processes really killed, disks really full, files really damaged.

`python -m torture --help`, or `make torture`. A scenario plays rounds; each has a seed of its own, which is printed
when a promise is broken, and played again by `--seed` and `--first`. Nothing here is faked but the encoders.
"""
