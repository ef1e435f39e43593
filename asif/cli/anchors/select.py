"""asif anchors select."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.cli.anchors.version_summary import summarise_version

if TYPE_CHECKING:
    from asif.encoders import Backend, Device
    from asif.engine.select import SelectionMethod
    from asif.vectors import Side


@click.command("select")
@click.argument("ref")
@click.option(
    "--method",
    type=click.Choice(["concepts", "concept-lists", "kmeans", "kdpp", "random"]),
    required=True,
    help="See below.",
)
@click.option("--size", type=click.IntRange(min=1), required=True, metavar="N", help="How many anchors to choose.")
@click.option("--name", required=True, metavar="NEW", help="Name of the new set.")
@click.option(
    "--concepts", type=click.Path(path_type=Path), metavar="FILE", help="concepts, concept-lists: a labels file."
)
@click.option(
    "--side", type=click.Choice(["image", "text"]), help="kmeans, kdpp: which embeddings they use.  [default: image]"
)
@click.option("--seed", type=click.IntRange(min=0), help="kmeans, random.  [default: 0]")
@options.device
@options.backend
@options.home
@options.as_json
def command(
    ref: str,
    method: SelectionMethod,
    size: int,
    name: str,
    concepts: Path | None,
    side: Side | None,
    seed: int | None,
    device: Device,
    backend: Backend,
    home: Path | None,
    as_json: bool,
) -> None:
    """Choose N anchors of a set, and make a set of them; the set's embeddings are not encoded again.

    concepts: equally many for each concept if there are enough, rare concepts first. concept-lists: at most N/c for
    each of c concepts, from a list of those most similar to it, as freeze-align's data were chosen. kmeans: those
    nearest to N centres. kdpp: the most diverse ones. random: a random sample.
    """
    from asif.engine import select_anchors

    started = time.perf_counter()
    concept_texts = None if concepts is None else _read_concepts(concepts)
    anchors = select_anchors(
        ref,
        method=method,
        size=size,
        name=name,
        concepts=concept_texts,
        side=side,
        seed=seed,
        home=home,
        device=device,
        backend=backend,
    )
    seconds = time.perf_counter() - started
    if as_json:
        operation = dict(anchors.manifest.operation)
        options.print_json({**summarise_version(anchors), "operation": operation, "seconds": round(seconds, 2)})
        return
    origin = anchors.manifest.operation["from"]
    options.print_text(
        f"{anchors.ref}: {anchors.count:,} anchors of {origin} by {method}, digest {anchors.digest[:12]}"
    )


def _read_concepts(file: Path) -> tuple[str, ...]:
    """Read concepts from a labels file: the first name of each label, or the label if there are none."""
    from asif.classify import read_labels

    labels, names = read_labels(file)
    return tuple(some[0] for some in names) or labels
