"""Run `asif build-anchors --dry-run` in a process of its own, and report which libraries it loaded."""

from __future__ import annotations

import subprocess
import sys

from support.running import Ran

DRY_RUN = """
import sys
from asif.cli import main
sys.argv = ["asif", "build-anchors", *sys.argv[1:]]
main()
print([name for name in ("torch", "timm", "sentence_transformers", "PIL") if name in sys.modules], file=sys.stderr)
"""


def dry_run(*arguments: str) -> Ran:
    run = [sys.executable, "-W", "error", "-c", DRY_RUN, *arguments, "--name", "toy", "--dry-run"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)
