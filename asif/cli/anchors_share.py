"""asif anchors export|import|push|pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset.sharing.incoming import Arrival

STANDARD = Path("-")


@click.command("export")
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@options.home
@options.as_json
def export(ref: str, file: Path, home: Path | None, as_json: bool) -> None:
    """Write one version of an anchor set to FILE, a new tar; - writes it to stdout.

    Nothing that was removed goes along, nor do older versions, rejects and fits. The same version gives the same bytes.
    """
    from asif.anchorset.sharing.archive import archive_size, put_archive, refuse_existing, write_archive

    if file == STANDARD:
        with options.store(home).packed(ref) as parcel:
            write_archive(click.get_binary_stream("stdout"), parcel, lambda done: None)
        return
    refuse_existing(file)
    with options.store(home).packed(ref, file.absolute().parent) as parcel:
        size = archive_size(parcel.manifest)
        with options.progress_bar(size, "B") as bar:
            put_archive(file, parcel, bar.update)
    made = parcel.manifest
    if as_json:
        about = {"name": made.name, "version": made.version, "digest": made.digest, "anchors": made.count}
        options.print_json({**about, "file": str(file), "bytes": size})
    else:
        click.echo(f"{file}: {made.ref}, {made.count:,} anchors, {options.bytes_text(size)}, digest {made.digest[:12]}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What the set is called here; one that is there gets a version.")
@options.home
@options.as_json
def import_(file: Path, name: str | None, home: Path | None, as_json: bool) -> None:
    """Take in an anchor set that was exported to FILE; - reads stdin. Every byte is verified before it is published."""
    from asif.anchorset.sharing.archive import Archive

    if file == STANDARD:
        tell(options.store(home).receive(Archive(click.get_binary_stream("stdin"), "stdin"), name), as_json)
        return
    try:
        opened = open(file, "rb")
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(file)[:200]!a} cannot be read ({error})", "an archive", "check the path") from error
    with opened, options.progress_bar(file.stat().st_size, "B") as bar:
        arrival = options.store(home).receive(Archive(opened, file.name), name, bar.update)
    tell(arrival, as_json)


def tell(arrival: Arrival, as_json: bool) -> None:
    """Print what came in."""
    made = arrival.anchors
    if as_json:
        about = {"name": made.name, "version": made.version, "digest": made.digest, "anchors": made.count}
        options.print_json({**about, "published": arrival.published, "operation": dict(made.manifest.operation)})
    elif arrival.published:
        click.echo(f"{made.ref}: {made.count:,} anchors from {made.manifest.operation['from']}, digest {made.digest[:12]}")
    else:
        options.notice(f"{made.ref} has these anchors already, digest {made.digest[:12]}; nothing was changed")
