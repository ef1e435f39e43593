"""asif train-ape|train-fusemix, and what train-freeze-align shares with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.rivals import Projector
    from asif.rivals.train import Training

OPTIONS = {
    "layers": "Linear layers of the MLP.",
    "hidden": "Units of its hidden layers.",
    "blocks": "Residual blocks of an adapter.",
    "expansion": "Units of a block's MLP, for each input.",
    "width": "Dimensions of the common space.",
    "batch": "Pairs of a step.",
    "steps": "Steps.",
    "epochs": "Times that every pair is seen.",
    "rate": "Learning rate, at its highest.",
    "decay": "Weight decay.",
    "dropout": "Share of units left out while training.",
    "seed": "Of weights, batches, dropout and held-out pairs.",
}

HELP = """Train {what}.

A tenth of the images is held out; training stops when they are found no better, and the best weights are kept beside
the set, for --aligner {name}. Killed, the same command goes on where it was. It is a rival to compare with: what needs
no training is often as good, and can be edited; see asif compare.
"""


def command_of(name: str, what: str) -> click.Command:
    """Make the command that trains a projector of this name, with an option for every parameter it has."""
    from dataclasses import fields

    from asif.aligners.registry import WHOLE
    from asif.rivals import PROJECTORS

    @click.command(f"train-{name}", help=HELP.format(name=name, what=what))
    @click.option("--anchors", required=True, metavar="REF", help="name, name@alias, name@3.")
    @click.option("--recipe", metavar="NAME_OR_PATH", help="Take the parameters of a recipe: asif anchors recipes.")
    @options.device
    @options.home
    @options.as_json
    def command(anchors: str, recipe: str | None, device: Any, home: Path | None, as_json: bool, **given: Any) -> None:
        from asif.rivals.train import train_projector

        projector = made(name, recipe, given)
        run(partial(train_projector, anchors, projector, home=home, device=device), name, as_json)

    for field in reversed(fields(PROJECTORS[name])):
        kind = int if field.name in WHOLE else float
        default = "by the number of pairs" if field.default is None else f"{field.default}"
        option = click.Option([f"--{field.name}"], type=kind, help=f"{OPTIONS[field.name]}  [default: {default}]")
        command.params.insert(1, option)
    return command


def made(name: str, recipe: str | None, given: dict[str, Any]) -> Projector:
    """Make the projector that options describe, or a recipe; raises UsageError for both, and for another's recipe."""
    from asif.aligners import make_aligner
    from asif.building.recipe_file import find_recipe
    from asif.rivals import PROJECTORS

    parameters = {key: value for key, value in given.items() if value is not None}
    if recipe is None:
        return PROJECTORS[name](**parameters)
    found = find_recipe(recipe)
    if parameters:
        raise UsageError(
            f"--{next(iter(parameters))} beside --recipe {recipe}",
            "the recipe's own parameters: with others it is another recipe",
            "leave one out, or copy the recipe's file, change it and pass its path",
        )
    aligner = make_aligner(found.aligner) if found.aligner else None
    if not isinstance(aligner, PROJECTORS[name]):
        raise UsageError(
            f"the recipe {found.name} has the aligner {found.aligner}",
            name,
            "choose another recipe: asif anchors recipes",
        )
    options.notice(f"{found.name}: {found.status}")
    return aligner


def run(train: Callable[..., Training], name: str, as_json: bool) -> None:
    """Train, with a bar over the steps."""
    with options.progress_bar(0, "step") as bar:

        def encoding(done: int, every: int) -> None:
            bar.set_description("encoding")
            bar.total = every
            bar.update(done - bar.n)

        def progress(look: Any) -> None:
            bar.set_description(name)
            bar.total = look.steps
            bar.update(look.step - bar.n)
            bar.set_postfix(loss=f"{look.loss:.3f}", held_out_recall=f"{look.recall:.3f}")

        found = train(encoding=encoding, progress=progress)
    show(found, as_json)


def show(found: Training, as_json: bool) -> None:
    """Print what training came to."""
    best, anchors, trained = found.trained.best, found.anchors, found.trained
    about = {
        "aligner": found.fitted.aligner.name,
        "parameters": found.fitted.parameters,
        "anchors": {"name": anchors.name, "version": anchors.version, "digest": anchors.digest},
        "images": found.images,
        "texts": found.texts,
        "weights": found.fitted.size,
        "seconds": round(trained.seconds, 2),
        "resumed_at": found.resumed_at,
        "best_step": best.step,
        "last_step": trained.looks[-1].step,
        "held_out": {"recall@1": best.recall, "mean_reciprocal_rank": best.rank},
    }
    if found.missing is not None:
        about["anchors_without_tokens"] = found.missing
    if as_json:
        looks = [
            {"step": look.step, "loss": look.loss, "recall@1": look.recall, "mean_reciprocal_rank": look.rank}
            for look in trained.looks
        ]
        options.print_json({**about, "looks": looks})
        return
    click.echo(f"{about['aligner']} on {anchors.ref}: {found.images:,} images, {found.texts:,} texts")
    if found.missing:
        click.echo(f"left out: {found.missing:,} of {anchors.count:,} anchors, whose tokens were not among the pairs'")
    click.echo(f"{found.fitted.size:,} weights, {trained.seconds:.0f} s to step {trained.looks[-1].step:,}")
    click.echo(
        f"kept as they were at step {best.step:,}: held-out recall@1 {best.recall:.3f}, "
        f"mean reciprocal rank {best.rank:.3f}"
    )
    if found.missing is None:
        click.echo(f"use them: --anchors {anchors.ref} --aligner {about['aligner']}")
    else:
        click.echo(f'use them, in Python: trained_before(FreezeAlignTokens(), open_anchors("{anchors.ref}"))')


ape = command_of("ape", "APE on an anchor set: an MLP that leads texts into the image encoder's space")
fusemix = command_of("fusemix", "FuseMix on an anchor set: adapters on both sides, on mixtures of pairs")
