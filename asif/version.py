"""The version of this code, as it is written into every anchor set."""

VERSION = "0.1.0"
