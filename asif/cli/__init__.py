"""The command line: one file per command, imported when it is run. The door to click."""

from asif.cli.app import main

__all__ = ["main"]
