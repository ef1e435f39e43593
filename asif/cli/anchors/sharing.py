"""asif anchors export|import|push|pull."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.cli.anchors.version_summary import summarise_version
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset.sharing.bundle import Bundle
    from asif.anchorset.sharing.importer import ImportResult
    from asif.anchorset.sharing.licence_summary import LicenceSummary

_STDIO = Path("-")  # stdin or stdout
_SHOWN = 5  # licences that warnings list


@click.command("export")
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@options.home
@options.as_json
def export(ref: str, file: Path, home: Path | None, as_json: bool) -> None:
    """Write one version of an anchor set to FILE, a new tar; - writes it to stdout.

    Removed pairs, older versions, rejects and fits are not exported. The same version gives the same bytes.
    """
    from asif.anchorset.sharing.tar_archive import (
        check_new_file,
        compute_archive_size,
        write_archive,
        write_archive_file,
    )

    if file == _STDIO:
        if as_json:
            raise UsageError("--json together with an archive on stdout", "one of them on stdout", "leave --json out")
        with options.open_store(home).pack(ref) as bundle:
            write_archive(sys.stdout.buffer, bundle, lambda done: None)
        return
    check_new_file(file)
    with options.open_store(home).pack(ref, file.absolute().parent) as bundle:
        size = compute_archive_size(bundle.manifest)
        with options.open_progress_bar(size, "B") as bar:
            write_archive_file(file, bundle, bar.update)
    manifest = bundle.manifest
    if as_json:
        options.print_json({**summarise_version(manifest), "file": str(file), "bytes": size})
    else:
        options.print_text(
            f"{file}: {manifest.ref}, {manifest.count:,} anchors, {options.format_bytes(size)}, "
            f"digest {manifest.digest[:12]}"
        )


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the set here; a set that exists gets a new version.")
@options.home
@options.as_json
def import_(file: Path, name: str | None, home: Path | None, as_json: bool) -> None:
    """Import an anchor set that was exported to FILE; - reads stdin. Every byte is verified before it is published."""
    from asif.anchorset.sharing.tar_archive import TarSource

    if file == _STDIO:
        _print_import(options.open_store(home).receive(TarSource(sys.stdin.buffer, "stdin"), name), as_json)
        return
    if not os.path.exists(file) or os.path.isdir(file):  # False for names that no file can have
        raise UsageError(
            f"there is no file {str(file)[:200]!a}", "an archive that asif anchors export wrote", "check it"
        )
    with open(file, "rb") as archive, options.open_progress_bar(file.stat().st_size, "B") as bar:
        result = options.open_store(home).receive(TarSource(archive, file.name), name, bar.update)
    _print_import(result, as_json)


@click.command("push")
@click.argument("ref")
@click.argument("repo", metavar="USER/REPO")
@click.option(
    "--private", is_flag=True, help="Create the repository as a private one; an existing public one is refused."
)
@click.option(
    "--revision", metavar="BRANCH", help="The branch to push to; created if it does not exist.  [default: main]"
)
@click.option("--message", metavar="TEXT", help="Commit message.")
@click.option("--dry-run", is_flag=True, help="Print the dataset card and what would be uploaded, and send nothing.")
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
    """Upload one version of an anchor set, with a dataset card, to a dataset repository of the Hugging Face Hub.

    Ids, captions, sources, licences and URLs are uploaded with the embeddings; removed pairs are not. Only blocks that
    the repository does not have are uploaded. The token is that of huggingface_hub: HF_TOKEN, or `hf auth login`.
    """
    from asif.anchorset.sharing import hub
    from asif.anchorset.sharing.card import format_card
    from asif.anchorset.sharing.licence_summary import summarise_licences

    hub.check_repo_name(repo)
    with options.open_store(home).pack(ref) as bundle:
        licences = summarise_licences(bundle)
        _print_push_summary(bundle, licences, repo)
        text = format_card(bundle.manifest, licences, repo if revision is None else f"{repo}@{revision}")
        if dry_run:
            options.print_lines(text.removesuffix("\n"))
            return
        result = hub.push_bundle(bundle, repo, text, revision=revision, private=private, message=message)
    manifest = bundle.manifest
    if as_json:
        options.print_json({**summarise_version(manifest), **asdict(result)})
        return
    visibility = "private" if result.private else "public"
    options.print_text(
        f"{result.repo}@{result.commit[:12]} ({visibility}): {manifest.ref}, {manifest.count:,} anchors, "
        f"digest {manifest.digest[:12]}; {len(result.uploaded):,} files new, {options.format_bytes(result.bytes)}, "
        f"{len(result.deleted):,} deleted"
    )


def _print_push_summary(bundle: Bundle, licences: LicenceSummary, repo: str) -> None:
    """Print what will be uploaded, with warnings about licences."""
    from asif.modality import name_many

    manifest = bundle.manifest
    items = name_many(manifest.modalities["image"])
    options.print_notice(
        f"to {repo}: {manifest.count:,} pairs of {manifest.ref}: "
        f"ids, captions, sources, licences, {licences.urls:,} URLs, and embeddings; no {items}"
    )
    if licences.unlicensed:
        options.print_notice(f"warning: {licences.unlicensed:,} pairs have no licence")
    for name, count in list(licences.unrecognised.items())[:_SHOWN]:
        options.print_notice(
            f"warning: {count:,} pairs have a licence that may not allow passing them on: {name[:80]!r}"
        )
    if len(licences.unrecognised) > _SHOWN:
        options.print_notice(f"warning: so have others, under {len(licences.unrecognised) - _SHOWN:,} more licences")


@click.command("pull")
@click.argument("repo", metavar="USER/REPO[@REVISION]")
@click.option("--name", metavar="NAME", help="Name of the set here; a set that exists gets a new version.")
@options.home
@options.as_json
def pull(repo: str, name: str | None, home: Path | None, as_json: bool) -> None:
    """Download an anchor set from the Hugging Face Hub. Every byte is verified before it is published.

    Blocks that a set of that name has already are not downloaded again.
    """
    from asif.anchorset.format.references import check_set_name
    from asif.anchorset.sharing.hub import HubSource

    if name is not None:
        check_set_name(name)
    source = HubSource(repo)
    with options.open_progress_bar(source.size, "B") as bar:
        result = options.open_store(home).receive(source, name, bar.update)
    _print_import(result, as_json)


def _print_import(result: ImportResult, as_json: bool) -> None:
    """Print the version that has the imported anchors."""
    anchors, operation = result.anchors, dict(result.anchors.manifest.operation)
    if as_json:
        options.print_json({**summarise_version(anchors), "published": result.published, "operation": operation})
    elif result.published:
        options.print_text(
            f"{anchors.ref}: {anchors.count:,} anchors from {operation['from']}, digest {anchors.digest[:12]}"
        )
    else:
        options.print_notice(
            f"{anchors.ref} has these anchors already, digest {anchors.digest[:12]}; nothing was changed"
        )
