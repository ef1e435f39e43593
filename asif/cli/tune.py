"""asif tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.encoders import Device
    from asif.tuning import TuningResult

SHOWN = 8


@click.command("tune")
@click.option("--anchors", default="imagenet-head", show_default=True, metavar="REF", help="Its current version.")
@click.option("--task", type=click.Choice(["classify", "search"]), required=True, help="What the anchors are for.")
@click.option("--seconds", type=click.FloatRange(min=1), default=120.0, show_default=True, help="About how long.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which pairs are held out.")
@click.option("--dry-run", is_flag=True, help="Say what suits the anchors; keep nothing.")
@options.device
@options.home
@options.as_json
def command(
    anchors: str,
    task: str,
    seconds: float,
    seed: int,
    dry_run: bool,
    device: Device,
    home: Path | None,
    as_json: bool,
) -> None:
    """Find the aligner and parameters that suit an anchor set, and keep them with it.

    Some pairs are held out, the rest is fitted, and the held-out ones are asked about: no label is needed. The choice
    becomes the set's profile, which `--aligner auto` uses: a new version of the set with the same anchors.
    """
    from asif.engine import tune_anchors
    from asif.tuning import TASKS

    chosen = next(known for known in TASKS if known == task)
    with options.progress_bar(0, "setting") as bar:

        def progress(done: int, every: int) -> None:
            bar.total = every
            bar.update(done - bar.n)

        tuned, kept = tune_anchors(
            anchors, chosen, seconds=seconds, seed=seed, keep=not dry_run, home=home, device=device, progress=progress
        )
    show(tuned, None if dry_run else kept, as_json)


def show(tuned: TuningResult, kept: AnchorSet | None, as_json: bool) -> None:
    """Print the choice and what it was chosen from."""
    from asif.tuning import CRITERIA

    if as_json:
        about = {"name": kept.name, "version": kept.version, "digest": kept.digest} if kept else None
        options.print_json({"task": tuned.task, "anchors": about, "seconds": tuned.seconds, **tuned.profile()})
        return
    click.echo(f"{tuned.task}: {CRITERIA[tuned.task]}")
    click.echo(f"{len(tuned.trials)} trials on {tuned.questions:,} questions in {tuned.seconds:.0f} s")
    if not tuned.complete:
        click.echo("time ran out before all settings were tried: --seconds gives more")
    shown = [tuned.best, *(trial for trial in tuned.trials[:SHOWN] if trial is not tuned.best)]
    rows: list[tuple[str, ...]] = [
        (f"{trial.score:.4f} ± {trial.error:.4f}", str(trial.hubness), trial.aligner) for trial in shown
    ]
    rows[0] = (*rows[0][:2], f"{rows[0][2]}  (chosen)")
    options.table(rows, ("score", "hubness", "aligner"))
    if kept is not None:
        click.echo(f"kept as the profile of {kept.ref}: --aligner auto uses it")
