"""asif anchors select."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options

if TYPE_CHECKING:
    from asif.encoders import Device
    from asif.engine.select import Method
    from asif.vectors import Side


@click.command("select")
@click.argument("ref")
@click.option("--method", type=click.Choice(["concepts", "kmeans", "kdpp", "random"]), required=True, help="See below.")
@click.option("--size", type=click.IntRange(min=1), required=True, metavar="N", help="How many anchors to choose.")
@click.option("--name", required=True, metavar="NEW", help="What the new set is called.")
@click.option("--concepts", type=click.Path(path_type=Path), metavar="FILE", help="concepts: one per line.")
@click.option("--side", type=click.Choice(["image", "text"]), help="kmeans, kdpp: what they look at.  [default: image]")
@click.option("--seed", type=click.IntRange(min=0), help="kmeans, random.  [default: 0]")
@options.device
@options.home
@options.as_json
def command(
    ref: str,
    method: Method,
    size: int,
    name: str,
    concepts: Path | None,
    side: Side | None,
    seed: int | None,
    device: Device,
    home: Path | None,
    as_json: bool,
) -> None:
    """Choose N anchors of a set, and make a set of them; nothing is encoded again.

    concepts: as many for each concept as there are, the rare ones first. kmeans: those nearest to N centres. kdpp:
    those most unlike each other. random: a sample.
    """
    from asif.engine import select_anchors

    started = time.perf_counter()
    words = None if concepts is None else options.lines(concepts)
    chosen = select_anchors(
        ref,
        method=method,
        size=size,
        name=name,
        concepts=words,
        side=side,
        seed=seed,
        home=home,
        device=device,
    )
    seconds = time.perf_counter() - started
    if as_json:
        about = {"name": chosen.name, "version": chosen.version, "digest": chosen.digest, "anchors": chosen.count}
        options.print_json({**about, "operation": dict(chosen.manifest.operation), "seconds": round(seconds, 2)})
        return
    origin = chosen.manifest.operation["from"]
    click.echo(f"{chosen.ref}: {chosen.count:,} anchors of {origin} by {method}, digest {chosen.digest[:12]}")
