"""asif anchors export|import|push|pull."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset.sharing.bundle import Parcel
    from asif.anchorset.sharing.import_ import Arrival
    from asif.anchorset.sharing.licence_summary import Contents

STANDARD = Path("-")
SHOWN = 5  # licences in a warning


@click.command("export")
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@options.home
@options.as_json
def export(ref: str, file: Path, home: Path | None, as_json: bool) -> None:
    """Write one version of an anchor set to FILE, a new tar; - writes it to stdout.

    Nothing that was removed goes along, nor do older versions, rejects and fits. The same version gives the same bytes.
    """
    from asif.anchorset.sharing.tar_archive import archive_size, put_archive, refuse_existing, write_archive

    if file == STANDARD:
        if as_json:
            raise UsageError("--json where the archive goes to stdout", "one of them there", "leave --json out")
        with options.store(home).packed(ref) as parcel:
            write_archive(sys.stdout.buffer, parcel, lambda done: None)
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
    from asif.anchorset.sharing.tar_archive import Archive

    if file == STANDARD:
        tell(options.store(home).receive(Archive(sys.stdin.buffer, "stdin"), name), as_json)
        return
    if not os.path.exists(file) or os.path.isdir(file):  # False for names that no file can have
        raise UsageError(
            f"there is no file {str(file)[:200]!a}", "an archive that asif anchors export wrote", "check it"
        )
    with open(file, "rb") as opened, options.progress_bar(file.stat().st_size, "B") as bar:
        arrival = options.store(home).receive(Archive(opened, file.name), name, bar.update)
    tell(arrival, as_json)


@click.command("push")
@click.argument("ref")
@click.argument("repo", metavar="USER/REPO")
@click.option("--private", is_flag=True, help="Make the repository a private one; a public one is refused.")
@click.option("--revision", metavar="BRANCH", help="The branch to push to; made where there is none.  [default: main]")
@click.option("--message", metavar="TEXT", help="What the commit is called.")
@click.option("--dry-run", is_flag=True, help="Print the card, say what would go out, and send nothing.")
@options.home
@options.as_json
def push(
    ref: str,
    repo: str,
    private: bool,
    revision: str | None,
    message: str | None,
    dry_run: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a dataset repository of the Hugging Face Hub hold one version of an anchor set, with a card.

    Ids, captions, sources, licences and URLs go out with the embeddings; what was removed does not. Only blocks that
    the repository does not have are uploaded. The token is that of huggingface_hub: HF_TOKEN, or `hf auth login`.
    """
    from asif.anchorset.sharing import hub
    from asif.anchorset.sharing.card import card
    from asif.anchorset.sharing.licence_summary import contents

    hub.check_repo(repo)
    with options.store(home).packed(ref) as parcel:
        what = contents(parcel)
        warn(parcel, what, repo)
        text = card(parcel.manifest, what, repo if revision is None else f"{repo}@{revision}")
        if dry_run:
            click.echo(text, nl=False)
            return
        done = hub.push(parcel, repo, text, revision=revision, private=private, message=message)
    made = parcel.manifest
    if as_json:
        about = {"name": made.name, "version": made.version, "digest": made.digest, "anchors": made.count}
        options.print_json({**about, **asdict(done)})
        return
    seen = "private" if done.private else "public"
    click.echo(
        f"{done.repo}@{done.commit[:12]} ({seen}): {made.ref}, {made.count:,} anchors, digest {made.digest[:12]}; "
        f"{len(done.uploaded):,} files new, {options.bytes_text(done.bytes)}, {len(done.deleted):,} deleted"
    )


def warn(parcel: Parcel, what: Contents, repo: str) -> None:
    """Say what goes out, and what of it may not be meant to."""
    made = parcel.manifest
    options.notice(
        f"to {repo}: {made.count:,} pairs of {made.ref}: ids, captions, sources, licences, {what.urls:,} URLs, "
        "and embeddings; no images"
    )
    if what.unlicensed:
        options.notice(f"warning: {what.unlicensed:,} pairs have no licence")
    for name, count in list(what.doubtful.items())[:SHOWN]:
        options.notice(f"warning: {count:,} pairs have a licence that may not allow passing them on: {name[:80]!r}")
    if len(what.doubtful) > SHOWN:
        options.notice(f"warning: so have others, under {len(what.doubtful) - SHOWN:,} more licences")


@click.command("pull")
@click.argument("repo", metavar="USER/REPO[@REVISION]")
@click.option("--name", metavar="NAME", help="What the set is called here; one that is there gets a version.")
@options.home
@options.as_json
def pull(repo: str, name: str | None, home: Path | None, as_json: bool) -> None:
    """Take in an anchor set from the Hugging Face Hub. Every byte is verified before it is published.

    Blocks that a set of that name has already are not downloaded again.
    """
    from asif.anchorset.format.references import check_name
    from asif.anchorset.sharing.hub import HubRepo

    if name is not None:
        check_name(name)
    source = HubRepo(repo)
    with options.progress_bar(source.size, "B") as bar:
        arrival = options.store(home).receive(source, name, bar.update)
    tell(arrival, as_json)


def tell(arrival: Arrival, as_json: bool) -> None:
    """Print what came in."""
    made = arrival.anchors
    if as_json:
        about = {"name": made.name, "version": made.version, "digest": made.digest, "anchors": made.count}
        options.print_json({**about, "published": arrival.published, "operation": dict(made.manifest.operation)})
    elif arrival.published:
        click.echo(
            f"{made.ref}: {made.count:,} anchors from {made.manifest.operation['from']}, digest {made.digest[:12]}"
        )
    else:
        options.notice(f"{made.ref} has these anchors already, digest {made.digest[:12]}; nothing was changed")
