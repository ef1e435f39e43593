"""asif anchors log|alias|rollback|diff|compact|gc|delete|rename."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from asif.cli import options
from asif.errors import UsageError

_SHOWN = 5  # ids of each kind that are printed without --json


@click.command("log")
@click.argument("name")
@options.home
@options.as_json
def log(name: str, home: Path | None, as_json: bool) -> None:
    """List the versions of an anchor set, newest first, with the operation that made each and its aliases."""
    entries = options.open_store(home).log(name)
    if as_json:
        for entry in entries:
            options.print_json(asdict(entry))
        return
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        names = ", ".join(entry.aliases) or "-"
        if entry.created is None or entry.operation is None:
            rows.append((entry.version, names, "-", "-", f"broken: {entry.error}"))
        else:
            rows.append((entry.version, names, entry.created, f"{entry.count:,}", _describe_operation(entry.operation)))
    options.print_table(rows, ("version", "aliases", "time", "anchors", "made by"))


@click.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--expect", metavar="VERSION", help="Only if the alias points at this version now.")
@click.option("--delete", is_flag=True, help="Delete the alias; the version stays.")
@options.home
def alias(name: str, alias: str, version: str | None, expect: str | None, delete: bool, home: Path | None) -> None:
    """Point an alias at a version, so that NAME@ALIAS refers to it; NAME alone refers to the alias `current`.

    VERSION is a number, a whole version or another alias. With --expect, the second of two changes fails (exit code 1).
    """
    if delete == (version is not None):
        raise UsageError(
            f"--delete and the version {version}" if delete else "no version, and no --delete",
            "a version that the alias is to point at, or --delete",
            "name the version: asif anchors alias NAME ALIAS VERSION",
        )
    if version is None:
        pointed_at = options.open_store(home).drop_alias(name, alias, expect)
        options.print_text(f"{name}@{alias} was deleted; it pointed at {pointed_at}")
    else:
        options.print_text(f"{name}@{alias} is {options.open_store(home).alias(name, alias, version, expect)}")


@click.command("rollback")
@click.argument("name")
@click.option(
    "--to", metavar="VERSION", help="Which version becomes current.  [default: the parent of the current one]"
)
@options.home
def rollback(name: str, to: str | None, home: Path | None) -> None:
    """Make an earlier version current; nothing is deleted, and `asif anchors alias NAME current VERSION` goes back."""
    options.print_text(f"{name}@current is {options.open_store(home).rollback(name, to)}")


@click.command("diff")
@click.argument("a")
@click.argument("b")
@options.home
@options.as_json
def diff(a: str, b: str, home: Path | None, as_json: bool) -> None:
    """Show the pairs and encoders in which the set B differs from A: two versions of one set, or two sets."""
    difference = options.open_store(home).diff(a, b)
    if as_json:
        options.print_json(asdict(difference))
        return
    for kind in ("added", "removed", "changed"):
        ids = getattr(difference, kind)
        first = ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
        options.print_text(f"{kind}: {len(ids):,}" + (f" ({first})" if ids else ""))
    fields = {
        f"{side} encoder {name}": both for side, each in difference.encoders.items() for name, both in each.items()
    }
    for name, (before, after) in {**difference.stored, **fields}.items():
        options.print_text(f"{name}: {before} in {difference.a}, {after} in {difference.b}")


@click.command("compact")
@click.argument("name")
@options.home
def compact(name: str, home: Path | None) -> None:
    """Rewrite blocks with deleted rows, and join small ones; pairs, digest and fits stay the same."""
    anchors = options.open_store(home).compact(name)
    blocks = len(anchors.manifest.blocks)
    options.print_text(f"{anchors.ref}: {anchors.count:,} anchors in {blocks:,} blocks, digest {anchors.digest[:12]}")


@click.command("gc")
@click.argument("name")
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="N", help="How many versions to keep.")
@options.home
@options.as_json
def gc(name: str, keep: int, home: Path | None, as_json: bool) -> None:
    """Delete all versions but the newest N and those that aliases point at, and the files that only they need."""
    deleted = options.open_store(home).gc(name, keep)
    if as_json:
        options.print_json(asdict(deleted))
    else:
        size = options.format_bytes(deleted.bytes)
        options.print_text(f"{name}: deleted {len(deleted.versions):,} versions, {deleted.files:,} files, {size}")


def _describe_operation(operation: Mapping[str, Any]) -> str:
    """Describe the operation that made a version, in a few words."""
    numbers = " ".join(f"{value:,} {name}" for name, value in operation.items() if type(value) is int)
    origin = operation.get("from") or operation.get("task") or operation.get("source") or ""
    return " ".join(part for part in (str(operation.get("kind", "")), str(origin), numbers) if part)


@click.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@options.home
@options.as_json
def delete(name: str, yes: bool, home: Path | None, as_json: bool) -> None:
    """Delete an anchor set with all of its versions, fits and unfinished builds, also a damaged one.

    Refused while an alias other than `current` points at a version, or a build runs. To delete single pairs from
    everything, caches of texts included, use `asif anchors remove --purge`.
    """
    store = options.open_store(home)
    size, count = store.size(name), sum(1 for _ in (store.path(name) / "versions").glob("*.json"))
    if not yes and not options.confirm(
        f"delete {name} with {count:,} versions, {options.format_bytes(size)}, for good?"
    ):
        options.print_notice("nothing was deleted")
        return
    deleted = store.delete(name)
    if as_json:
        options.print_json(asdict(deleted))
    else:
        shown = options.format_bytes(deleted.bytes)
        options.print_text(f"{name}: {len(deleted.versions):,} versions deleted, {shown}")


@click.command("rename")
@click.argument("old")
@click.argument("new")
@options.home
def rename(old: str, new: str, home: Path | None) -> None:
    """Give an anchor set another name, with all versions, aliases and fits; digests stay the same.

    Receipts of removals name the set as it was called, and are checked under that name alone.
    """
    store = options.open_store(home)
    store.rename(old, new)
    options.print_text(f"{old} is now {store.resolve(new)}")
