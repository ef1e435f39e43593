"""asif doctor."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from asif.cli import options
from asif.cli.app import EXIT_FAILED


@click.command("doctor")
@options.home
@options.as_json
def command(home: Path | None, as_json: bool) -> None:
    """Show versions, devices, places and what is missing. Exit code 1 if something needs fixing."""
    from asif.anchorset import default_home
    from asif.doctor import examine_installation

    findings = examine_installation(home or default_home())
    if as_json:
        for finding in findings:
            options.print_json(asdict(finding))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            options.print_text(f"{finding.what.ljust(width)}  {finding.found}")
            if finding.fix:
                options.print_text(f"{' ' * width}  to do: {finding.fix}", fg="yellow")
    if any(finding.fix for finding in findings):
        sys.exit(EXIT_FAILED)
