"""asif train-ape, train-fusemix, train-freeze-align: train a rival projector on an anchor set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.encoders import Device
    from asif.rivals import Projector
    from asif.rivals.train import TrainingResult
    from asif.rivals.trainer import HeldOutEvaluation

_PARAMETER_HELP = {
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
    "head": "Text head: 1 as published, 0 that of earlier versions.",
    "published": "Train as published: batches, epochs, width, dropout, decay and rate.",
    "seed": "Random seed of weights, batches, dropout and held-out pairs.",
}

_HELP = """Train {what}.

A tenth of the images is held out; training stops when their ranking no longer improves, and the best weights are
stored with the set, for --aligner {name}. After a crash the same command resumes. This is a rival for comparison:
aligners that need no training are often as good, and can be edited; see asif compare.
"""

_TOKEN_OPTIONS = (
    click.Option(
        ["--tokens"],
        metavar="PAIRS",
        help="Train on all tokens instead of vectors, for --aligner freeze-align-tokens; PAIRS are those that the "
        "anchors were built from.",
    ),
    click.Option(
        ["--token-dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for the tokens.  [default: cache/tokens/NAME in the store]",
    ),
    click.Option(["--column", "columns"], multiple=True, metavar="ROLE=NAME", help="Name a column, as image=photo."),
    click.Option(["--split"], metavar="NAME", help="The split to read in a folder of several: train, test, …"),
)


def _build_command(name: str, what: str) -> click.Command:
    """Build the command that trains the projector of this name, with an option for each of its parameters."""
    from dataclasses import fields

    from asif.aligners.registry import INTEGER_PARAMETERS
    from asif.rivals import PROJECTORS

    @click.command(f"train-{name}", help=_HELP.format(name=name, what=what))
    @click.option("--anchors", required=True, metavar="REF", help="name, name@alias, name@3.")
    @click.option("--recipe", metavar="NAME_OR_PATH", help="Take the parameters of a recipe: asif anchors recipes.")
    @options.device
    @options.home
    @options.as_json
    def command(
        anchors: str, recipe: str | None, device: Device, home: Path | None, as_json: bool, **parameters: Any
    ) -> None:
        from asif.rivals.train import train_projector

        projector = _build_projector(name, recipe, parameters)
        _run_training(partial(train_projector, anchors, projector, home=home, device=device), name, as_json)

    for field in reversed(fields(PROJECTORS[name])):
        if field.default is False:
            flag = click.Option([f"--{field.name}"], is_flag=True, default=None, help=_PARAMETER_HELP[field.name])
            command.params.insert(1, flag)
            continue
        kind = int if field.name in INTEGER_PARAMETERS else float
        default = "by the number of pairs" if field.default is None else f"{field.default}"
        text = f"{_PARAMETER_HELP[field.name]}  [default: {default}]"
        command.params.insert(1, click.Option([f"--{field.name}"], type=kind, help=text))
    return command


def _build_freeze_align_command() -> click.Command:
    """Build the command of freeze-align, which trains on vectors, or with --tokens on all tokens of the pairs."""
    command = _build_command(
        "freeze-align", "freeze-align on an anchor set: projectors of one vector per image and text"
    )
    command.params[1:1] = _TOKEN_OPTIONS
    train_on_vectors = command.callback
    assert train_on_vectors is not None

    def callback(
        tokens: str | None, token_dir: Path | None, columns: tuple[str, ...], split: str | None, **arguments: Any
    ) -> None:
        if tokens is not None:
            _train_on_tokens(tokens, token_dir, columns, split, **arguments)
        elif token_dir is not None or columns or split is not None:
            idle = " and ".join(options.list_given_options(("token_dir", "columns", "split"))) or "--token-dir"
            raise UsageError(f"{idle} without --tokens", "the pairs whose tokens are meant", "pass --tokens PAIRS")
        else:
            train_on_vectors(**arguments)

    command.callback = callback
    return command


def _train_on_tokens(
    pairs: str,
    folder: Path | None,
    columns: tuple[str, ...],
    split: str | None,
    anchors: str,
    device: Device,
    home: Path | None,
    as_json: bool,
    recipe: str | None,
    **parameters: Any,
) -> None:
    """Announce what will be read and written, then train on tokens."""
    from asif.pairs import open_pairs
    from asif.rivals import FreezeAlignTokens
    from asif.rivals.train_tokens import train_on_tokens

    projector = FreezeAlignTokens(**_build_projector("freeze-align", recipe, parameters).parameters)
    source = open_pairs(pairs, columns=options.parse_columns(columns), split=split)
    options.print_notice(source.describe())

    def announce(size: int, place: Path) -> None:
        options.print_notice(f"the tokens will take about {options.format_bytes(size)} in {place}")

    train = partial(train_on_tokens, anchors, projector, source, folder, home=home, device=device, announce=announce)
    _run_training(train, projector.name, as_json)


def _build_projector(name: str, recipe: str | None, parameters: dict[str, Any]) -> Projector:
    """Build the projector of the options or of a recipe; raises UsageError for both, and for another one's recipe."""
    from asif.aligners import make_aligner
    from asif.building.recipe_file import find_recipe
    from asif.rivals import PROJECTORS

    given = {key: value for key, value in parameters.items() if value is not None}
    if recipe is None:
        return PROJECTORS[name](**given)
    found = find_recipe(recipe)
    if given:
        raise UsageError(
            f"--{next(iter(given))} together with --recipe {recipe}",
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
    options.print_notice(f"{found.name}: {found.status}")
    return aligner


def _run_training(train: Callable[..., TrainingResult], name: str, as_json: bool) -> None:
    """Train with a progress bar over the steps, and print the result."""
    with options.open_progress_bar(0, "step") as bar:

        def encoding(done: int, total: int) -> None:
            bar.set_description("encoding")
            bar.total = total
            bar.update(done - bar.n)

        def progress(evaluation: HeldOutEvaluation) -> None:
            bar.set_description(name)
            bar.total = evaluation.steps
            bar.update(evaluation.step - bar.n)
            bar.set_postfix(loss=f"{evaluation.loss:.3f}", held_out_recall=f"{evaluation.recall:.3f}")

        result = train(encoding=encoding, progress=progress)
    _print_result(result, as_json)


def _print_result(result: TrainingResult, as_json: bool) -> None:
    """Print the result of a training, as text or as JSON."""
    best, anchors, trained = result.trained.best, result.anchors, result.trained
    summary = {
        "aligner": result.fitted.aligner.name,
        "parameters": result.fitted.parameters,
        "anchors": {"name": anchors.name, "version": anchors.version, "digest": anchors.digest},
        "images": result.images,
        "texts": result.texts,
        "weights": result.fitted.weight_count,
        "seconds": round(trained.seconds, 2),
        "resumed_at": result.resumed_at,
        "best_step": best.step,
        "last_step": trained.evaluations[-1].step,
        "held_out": {"recall@1": best.recall, "mean_reciprocal_rank": best.rank},
    }
    if result.missing is not None:
        summary["anchors_without_tokens"] = result.missing
    if as_json:
        looks = [
            {"step": each.step, "loss": each.loss, "recall@1": each.recall, "mean_reciprocal_rank": each.rank}
            for each in trained.evaluations
        ]
        options.print_json({**summary, "looks": looks})
        return
    options.print_text(f"{summary['aligner']} on {anchors.ref}: {result.images:,} images, {result.texts:,} texts")
    if result.missing:
        options.print_text(
            f"left out: {result.missing:,} of {anchors.count:,} anchors, whose tokens were not among the pairs'"
        )
    options.print_text(
        f"{result.fitted.weight_count:,} weights, {trained.seconds:.0f} s to step {trained.evaluations[-1].step:,}"
    )
    options.print_text(
        f"saved from step {best.step:,}: held-out recall@1 {best.recall:.3f}, mean reciprocal rank {best.rank:.3f}"
    )
    options.print_text(f"use them: --anchors {anchors.ref} --aligner {summary['aligner']}")


ape = _build_command("ape", "APE on an anchor set: an MLP that maps texts into the image encoder's space")
fusemix = _build_command("fusemix", "FuseMix on an anchor set: adapters on both sides, on mixtures of pairs")
freeze_align = _build_freeze_align_command()
