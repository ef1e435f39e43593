"""asif anchors list|recipes|info, and the group of all commands on anchor sets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from asif.cli import options
from asif.cli.anchors import audit, edit, select, sharing, verify, versions
from asif.cli.app import SuggestingGroup


@click.group("anchors", cls=SuggestingGroup)
def command() -> None:
    """List, inspect, verify and share anchor sets, choose from them, and move between their versions."""


for subcommand in (
    audit.command,
    select.command,
    edit.add,
    edit.update,
    edit.remove,
    edit.subset,
    edit.merge,
    versions.log,
    versions.alias,
    versions.rollback,
    versions.diff,
    versions.compact,
    versions.gc,
    versions.rename,
    versions.delete,
    verify.verify,
    verify.receipt,
    sharing.export,
    sharing.import_,
    sharing.push,
    sharing.pull,
):
    command.add_command(subcommand)


@command.command("list")
@options.home
@options.as_json
def list_(home: Path | None, as_json: bool) -> None:
    """List the anchor sets; a broken one is shown with its error."""
    entries = options.open_store(home).sets()
    if as_json:
        for entry in entries:
            options.print_json(asdict(entry))
        return
    if not entries:
        options.print_notice("no anchor sets yet: asif build-anchors pairs.parquet --name NAME makes one")
        return
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        if entry.version is None or entry.encoders is None:
            rows.append((entry.name, "-", "-", options.format_bytes(entry.size), f"broken: {entry.error}"))
            continue
        encoders = " + ".join(entry.encoders[side] for side in ("image", "text"))
        rows.append((entry.name, entry.version, f"{entry.count:,}", options.format_bytes(entry.size), encoders))
    options.print_table(rows, ("name", "version", "anchors", "size", "encoders"))


@command.command("recipes")
@options.as_json
def recipes_(as_json: bool) -> None:
    """List the recipes that come with asif: those built on first use, and those built from pairs that you bring."""
    from asif.building.recipe_file import list_recipes, read_recipe

    known = [read_recipe(path) for path in list_recipes().values()]
    if as_json:
        for recipe in known:
            options.print_json({"kind": recipe.kind, **asdict(recipe)})
        return
    rows: list[tuple[str, ...]] = []
    for recipe in known:
        headline = str(recipe.expected[0]) if recipe.expected else "-"
        rows.append((recipe.name, recipe.kind, recipe.status, headline))
    options.print_table(rows, ("name", "kind", "status", "published"))


@command.command("info")
@click.argument("ref")
@options.home
@options.as_json
def info(ref: str, home: Path | None, as_json: bool) -> None:
    """Show how a version of an anchor set was made, and from what."""
    with options.open_store(home).open(ref) as anchors:
        manifest = anchors.manifest
        about = {
            "name": anchors.name,
            "version": anchors.version,
            "digest": anchors.digest,
            "anchors": anchors.count,
            "rows_in": manifest.rows_in,
            "rejected": manifest.rejected,
            "dims": dict(anchors.dims),
            "dtype": manifest.dtype,
            "captions": manifest.captions,
            "blocks": len(manifest.blocks),
            "parent": manifest.parent,
            "operation": dict(manifest.operation),
            "created": manifest.created,
            "asif": manifest.asif,
            "profiles": {
                task: {name: found for name, found in profile.items() if name != "trials"}
                for task, profile in anchors.profiles.items()
            },
            "encoders": {
                side: {"spec": each.spec, "fingerprint": each.fingerprint.digest, **each.fingerprint.fields}
                for side, each in manifest.encoders.items()
            },
        }
    modalities = manifest.modalities
    if any(modality != side for side, modality in modalities.items()):
        about["modalities"] = modalities
    if as_json:
        options.print_json(about)
        return
    for key, value in about.items():
        if isinstance(value, dict):
            options.print_text(f"{key}:")
            for name, inner in value.items():
                shown = inner
                if key == "encoders":
                    shown = inner["spec"] + "  " + inner["fingerprint"][:12]
                if key == "profiles":
                    shown = inner["aligner"]
                label = modalities[name] if key in ("dims", "encoders") else name
                options.print_text(f"  {label}: {shown}")
        else:
            options.print_text(f"{key}: {value}")
