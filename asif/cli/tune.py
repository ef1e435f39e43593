"""asif tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.defaults import DEFAULT_ANCHORS

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.encoders import Backend, Device
    from asif.tuning import TuningResult

_SHOWN_TRIALS = 8


@click.command("tune")
@click.option(
    "--anchors",
    default=DEFAULT_ANCHORS,
    show_default=True,
    metavar="REF",
    help="Anchor set to tune (its current version).",
)
@click.option("--task", type=click.Choice(["classify", "search"]), required=True, help="Task to tune for.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Time budget in seconds."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the held-out pairs."
)
@click.option("--dry-run", is_flag=True, help="Print the choice; save nothing.")
@options.device
@options.backend
@options.home
@options.as_json
def command(
    anchors: str,
    task: str,
    seconds: float,
    seed: int,
    dry_run: bool,
    device: Device,
    backend: Backend,
    home: Path | None,
    as_json: bool,
) -> None:
    """Tune aligner and parameters; save them as the set's profile.

    Aligners are fitted to some pairs and scored on held-out pairs: no label is needed. The best becomes the set's
    profile, which `--aligner auto` uses: a new version of the set with the same anchors.
    """
    from asif.engine import tune_anchors
    from asif.tuning import TASKS

    known_task = next(known for known in TASKS if known == task)
    with options.open_progress_bar(0, "setting") as bar:

        def progress(done: int, every: int) -> None:
            bar.total = every
            bar.update(done - bar.n)

        tuned, anchor_set = tune_anchors(
            anchors,
            known_task,
            seconds=seconds,
            seed=seed,
            keep=not dry_run,
            home=home,
            device=device,
            backend=backend,
            progress=progress,
        )
    _print_tuned(tuned, None if dry_run else anchor_set, as_json)


def _print_tuned(tuned: TuningResult, saved: AnchorSet | None, as_json: bool) -> None:
    """Print the best trial and the next best ones."""
    from asif.tuning import CRITERIA

    if as_json:
        anchors = {"name": saved.name, "version": saved.version, "digest": saved.digest} if saved else None
        options.print_json({"task": tuned.task, "anchors": anchors, "seconds": tuned.seconds, **tuned.profile()})
        return
    options.print_text(f"{tuned.task}: {CRITERIA[tuned.task]}")
    options.print_text(f"{len(tuned.trials)} trials on {tuned.questions:,} questions in {tuned.seconds:.0f} s")
    if not tuned.complete:
        options.print_text("time ran out before all settings were tried: --seconds gives more")
    shown = [tuned.best, *(trial for trial in tuned.trials[:_SHOWN_TRIALS] if trial is not tuned.best)]
    rows: list[tuple[str, ...]] = [
        (f"{trial.score:.4f} ± {trial.error:.4f}", str(trial.hubness), trial.aligner) for trial in shown
    ]
    rows[0] = (*rows[0][:2], f"{rows[0][2]}  (chosen)")
    options.print_table(rows, ("score", "hubness", "aligner"))
    if saved is not None:
        options.print_text(f"saved as the profile of {saved.ref}: --aligner auto uses it")
