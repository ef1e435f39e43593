"""asif gallery build|update|list|info|verify|duplicates|delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.app import SuggestingGroup
from asif.cli.build_summary import describe_item_stages, summarise_stages
from asif.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet, Store
    from asif.anchorset.edit.purge import PurgePlan
    from asif.building.gallery import GalleryChanges, GalleryResult
    from asif.engine.gallery import GalleryKind
    from asif.kernels import KernelName
    from asif.pairs import PairSource, Reject

_REASONS_SHOWN = 5
_CHANGES = ("added", "changed", "renamed", "removed", "unchanged")

_ROW_OPTIONS = (
    options.columns,
    options.split,
    click.option("--where", metavar="EXPR", help="Only items that match: label = 'cat' and not uri like '%/raw/%'."),
    click.option("--limit", type=click.IntRange(min=1), help="Use the first N rows only."),
    click.option(
        "--max-bad-rows", default="100%", show_default=True, help="Stop above this share or number of unreadable rows."
    ),
    click.option(
        "--resume/--fresh", default=True, help="Use what an equal run has done, and vectors known.  [default: on]"
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be read; load no model, write nothing."),
)


def _rows(command: options.Command) -> options.Command:
    """Add the options that say which rows of SRC are read, and how."""
    for option in reversed(_ROW_OPTIONS):
        command = option(command)
    return command


@click.group("gallery", cls=SuggestingGroup)
def command() -> None:
    """Make galleries: the encoder vectors of a collection of images, texts or sounds, to be searched."""


@command.command("build")
@click.argument("sources", nargs=-1, required=True, metavar="SRC")
@click.option("--name", required=True, metavar="G", help="Name of the gallery; an existing one gets a new version.")
@click.option(
    "--kind", type=click.Choice(["image", "text", "audio"]), default="image", show_default=True, help="What is encoded."
)
@click.option("--anchors", metavar="REF", help="Take the encoder of this anchor set.")
@click.option(
    "--image-encoder",
    metavar="E",
    help="timm:<model>[@rev] or embedded:efficientnet-lite0 (the default); several are joined: E+E.",
)
@click.option(
    "--text-encoder",
    metavar="E",
    help="sentence-transformers:<id>[@rev], embedded:all-minilm-l6-v2 (the default) or embedded:bge-small-en.",
)
@click.option(
    "--audio-encoder", metavar="E", help="clap:<id>[@rev], whisper:<id>[@rev], hf-audio:<id>[@rev] or embedded:log-mel."
)
@click.option("--dtype", type=click.Choice(["float16", "float32", "bfloat16"]), default="float16", show_default=True)
@click.option("--thumbnails", is_flag=True, help="Store a WebP image of at most 128 pixels for each item.")
@_rows
@options.workers
@options.device
@options.backend
@options.precision
@options.home
@options.as_json
def build(sources: tuple[str, ...], as_json: bool, dry_run: bool, **params: Any) -> None:
    """Encode the images, texts or sounds of SRC.

    SRC is a folder with images below it, image files or globs, or anything that build-anchors reads, where captions may
    be missing; with --kind text a table with a column of texts, or a .txt file with one text a line; with --kind audio
    sounds in place of images. Files that cannot be read are listed with reasons.
    """
    from asif.anchorset.format.references import check_set_name
    from asif.building import Tolerance
    from asif.building.gallery import GalleryOptions, GallerySource
    from asif.encoders import check_spec
    from asif.engine.gallery import check_kind, find_side

    check_set_name(params["name"])
    kind: GalleryKind = params["kind"]
    sharding = options.make_sharding(params)
    spec = _choose_spec(kind, params)
    if spec is not None:
        check_spec(spec, kind)
    chosen = GalleryOptions(
        params["dtype"],
        params["thumbnails"],
        params["limit"],
        params["where"],
        Tolerance.parse(params["max_bad_rows"]),
        params["resume"],
    )
    chosen.leaves_out()
    if not dry_run:
        _open_galleries(params["home"]).check_writable()
    columns, modality = options.parse_columns(params["columns"]), "audio" if kind == "audio" else None
    source = GallerySource.open(sources, find_side(kind), columns, params["split"], modality)
    check_kind(source.pairs, kind)
    options.print_notice(source.pairs.describe())
    if dry_run:
        _print_estimate(source.pairs, kind, spec, params, as_json)
        return
    from asif.engine import build_gallery

    with options.open_progress_bar(chosen.count_rows(source.pairs), kind) as bar:
        built = build_gallery(
            source,
            params["name"],
            kind=kind,
            encoder=spec,
            anchors=params["anchors"],
            options=chosen,
            home=params["home"],
            device=params["device"],
            backend=params["backend"],
            precision=None if params["anchors"] is not None else params["precision"],
            progress=lambda rows: bar.update(rows - bar.n),
            sharding=sharding,
        )
    _print_build(built, _open_galleries(params["home"]), as_json)


def _choose_spec(kind: GalleryKind, params: Mapping[str, Any]) -> str | None:
    """Return the encoder that was named for the kind.

    Raises UsageError for one of the other side, and for an encoder or a precision besides that of an anchor set.
    """
    from asif.modality import name_many

    others = [each for each in ("image", "text", "audio") if each != kind and params[f"{each}_encoder"] is not None]
    if others:
        items = name_many(kind)
        raise UsageError(
            f"--{others[0]}-encoder for a gallery of {items}", f"--{kind}-encoder", f"name the encoder of {items}"
        )
    spec: str | None = params[f"{kind}_encoder"]
    if spec is not None and params["anchors"] is not None:
        raise UsageError(f"--anchors and --{kind}-encoder", "one of the two", "leave the encoder out")
    if params["anchors"] is not None and options.list_given_options(("precision",)):
        raise UsageError(
            "--anchors and --precision", "one of the two", "leave the precision out: it is that of the anchor set"
        )
    return spec


def _print_estimate(
    source: PairSource, kind: GalleryKind, spec: str | None, params: Mapping[str, Any], as_json: bool
) -> None:
    """Print what encoding the source takes."""
    from asif.building.estimate import estimate_gallery
    from asif.engine.gallery import choose_encoder, find_side

    spec = spec or choose_encoder(kind, None, params["anchors"], params["home"], params["device"])
    estimated = estimate_gallery(
        source,
        find_side(kind),
        spec,
        params["dtype"],
        params["limit"],
        params["thumbnails"],
        _open_galleries(params["home"]).root,
    )
    if as_json:
        options.print_json(estimated.as_dict())
    else:
        options.print_lines(estimated.as_text())


@command.command("update")
@click.argument("ref", metavar="G")
@click.argument("sources", nargs=-1, metavar="[SRC]")
@click.option("--thumbnails/--no-thumbnails", default=None, help="Store thumbnails of new items.  [default: as built]")
@click.option(
    "--receipt",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a proof that items whose content is gone were removed.",
)
@click.option(
    "--purge", is_flag=True, help="Delete content that is gone from disk too, with older versions that hold it."
)
@_rows
@options.workers
@options.device
@options.backend
@options.home
@options.as_json
def update(ref: str, sources: tuple[str, ...], as_json: bool, dry_run: bool, **params: Any) -> None:
    """Bring a gallery up to date with SRC, by default what it was built from; only new content is encoded.

    A file with the path, size and time that it had is not read again. Renamed and copied files cost no encoding; items
    that are gone disappear, and stay in older versions, except with --purge.
    """
    from asif.building.gallery import count_changes
    from asif.engine import update_gallery
    from asif.engine.gallery import plan_update

    sharding = options.make_sharding(params)
    with _open_galleries(params["home"]).open(ref) as current:
        before = current.version
        source, chosen = plan_update(
            current,
            sources or None,
            columns=options.parse_columns(params["columns"]),
            split=params["split"],
            thumbnails=params["thumbnails"],
            limit=params["limit"],
            where=params["where"],
            max_bad_rows=params["max_bad_rows"],
            resume=params["resume"],
        )
        options.print_notice(source.pairs.describe())
        if dry_run:
            _refuse_with_dry_run(params)
            _print_planned_changes(count_changes(source.pairs, current, chosen), as_json)
            return
    with options.open_progress_bar(chosen.count_rows(source.pairs), "item") as bar:
        changes = update_gallery(
            ref,
            source,
            options=chosen,
            receipt=params["receipt"],
            purge=params["purge"],
            home=params["home"],
            device=params["device"],
            backend=params["backend"],
            on_plan=_print_purge_plan,
            progress=lambda rows: bar.update(rows - bar.n),
            sharding=sharding,
        )
    _print_changes(changes, before, params["receipt"], as_json)


def _refuse_with_dry_run(params: Mapping[str, Any]) -> None:
    given = [f"--{name}" for name in ("receipt", "purge") if params[name]]
    if given:
        raise UsageError(f"--dry-run with {given[0]}", "one of them", f"look with --dry-run alone, then use {given[0]}")


def _print_planned_changes(counts: dict[str, int], as_json: bool) -> None:
    """Print what an update would read, for --dry-run."""
    if as_json:
        options.print_json(counts)
    else:
        options.print_text(", ".join(f"{count:,} {name}" for name, count in counts.items()))


def _print_purge_plan(plan: PurgePlan) -> None:
    """Print which versions are about to be deleted."""
    options.print_notice(f"versions that hold what is gone are deleted: {', '.join(plan.versions) or 'none'}")


def _print_build(built: GalleryResult, store: Store, as_json: bool) -> None:
    """Print the size, digest and speed of a build."""
    from asif.modality import name_many

    opened, manifest, size = built.opened, built.opened.manifest, store.size(built.opened.name)
    side = manifest.sides[0]
    modality = manifest.modalities[side]
    rejects = opened.rejects()
    if as_json:
        options.print_json(
            {
                **_summarise(opened),
                "rows_in": manifest.rows_in,
                "rejected": manifest.rejected,
                "encoded": built.encoded,
                "resumed_at_row": built.resumed_at,
                **summarise_stages(built),
                "bytes": size,
                "rejects": _describe_rejects(rejects),
            }
        )
        return
    options.print_text(f"{opened.ref}: {opened.count:,} {name_many(modality)}, digest {opened.digest[:12]}")
    counts = f"{manifest.rows_in:,} in = {opened.count:,} kept + {manifest.rejected:,} rejected"
    options.print_text(f"  {counts}; {options.format_bytes(size)} on disk")
    options.print_lines(describe_item_stages(built, side, modality))
    if built.resumed_at:
        options.print_text(f"  went on at row {built.resumed_at:,} of an earlier run")
    _print_rejects(rejects)


def _print_changes(changes: GalleryChanges, before: str, receipt: Path | None, as_json: bool) -> None:
    """Print what an update changed."""
    opened, rejects = changes.opened, changes.opened.rejects()
    about = {name: getattr(changes, name) for name in _CHANGES}
    written = receipt is not None and receipt.exists()
    if changes.deleted is not None:
        freed = options.format_bytes(changes.deleted.bytes)
        options.print_notice(f"deleted {changes.deleted.files:,} files, {freed}")
    if receipt is not None:
        options.print_notice(f"receipt: {receipt}" if written else "no receipt was written: no content is gone")
    if as_json:
        options.print_json(
            {
                **_summarise(opened),
                **about,
                "rejected": changes.rejected,
                "encoded": changes.encoded,
                **summarise_stages(changes),
                **({"receipt": str(receipt)} if written else {}),
                "rejects": _describe_rejects(rejects),
            }
        )
        return
    if opened.version == before:
        options.print_text(f"{opened.ref} is up to date: {opened.count:,} items")
    else:
        listed = ", ".join(f"{count:,} {name}" for name, count in about.items())
        options.print_text(f"{opened.ref}: {listed}; {changes.encoded:,} encoded, digest {opened.digest[:12]}")
    if changes.encoded:
        ((side, modality),) = opened.manifest.modalities.items()
        options.print_lines(describe_item_stages(changes, side, modality))
    _print_rejects(rejects)


def _print_rejects(rejects: list[Reject]) -> None:
    """Print the first rows that are no items, with reasons, and how many there are of each reason."""
    for reject in rejects[:_REASONS_SHOWN]:
        options.print_notice(f"  not read: {reject.id or f'row {reject.row}'}: {reject.reason}")
    if len(rejects) > _REASONS_SHOWN:
        counts = Counter(reject.reason for reject in rejects).most_common(_REASONS_SHOWN)
        listed = "; ".join(f"{reason} ({count:,})" for reason, count in counts)
        options.print_notice(f"  not read: {len(rejects):,} in all: {listed}; asif gallery info lists them with --json")


def _describe_rejects(rejects: list[Reject]) -> list[dict[str, Any]]:
    return [{"row": reject.row, "id": reject.id, "reason": reject.reason} for reject in rejects]


def _summarise(opened: AnchorSet) -> dict[str, Any]:
    """Return name, version, digest, kind and number of items, for JSON."""
    return {
        "name": opened.name,
        "version": opened.version,
        "digest": opened.digest,
        "kind": next(iter(opened.manifest.modalities.values())),
        "items": opened.count,
    }


@command.command("list")
@options.home
@options.as_json
def list_(home: Path | None, as_json: bool) -> None:
    """List the galleries; a broken one is shown with its error."""
    entries = _open_galleries(home).sets()
    if as_json:
        for entry in entries:
            side = next(iter(entry.encoders or ()), None)
            options.print_json(
                {
                    "name": entry.name,
                    "version": entry.version,
                    "items": entry.count,
                    "kind": None if entry.modalities is None or side is None else entry.modalities[side],
                    "encoder": None if entry.encoders is None or side is None else entry.encoders[side],
                    "bytes": entry.size,
                    "created": entry.created,
                    "error": entry.error,
                }
            )
        return
    if not entries:
        options.print_notice("no galleries yet: asif gallery build FOLDER --name NAME makes one")
        return
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        size = options.format_bytes(entry.size)
        if entry.version is None or entry.encoders is None or entry.modalities is None:
            rows.append((entry.name, "-", "-", "-", size, f"broken: {entry.error}"))
        else:
            ((side, encoder),) = entry.encoders.items()
            rows.append((entry.name, entry.version, f"{entry.count:,}", entry.modalities[side], size, encoder))
    options.print_table(rows, ("name", "version", "items", "kind", "size", "encoder"))


@command.command("info")
@click.argument("ref", metavar="G")
@options.home
@options.as_json
def info(ref: str, home: Path | None, as_json: bool) -> None:
    """Show how a gallery was made, from what, and which files could not be read."""
    store = _open_galleries(home)
    with store.open(ref) as opened:
        manifest, rejects = opened.manifest, opened.rejects()
        (side,) = manifest.sides
        fingerprint = opened.fingerprint(side)
        about = {
            **_summarise(opened),
            "rows_in": manifest.rows_in,
            "rejected": manifest.rejected,
            "dim": opened.dims[side],
            "dtype": manifest.dtype,
            "thumbnails": any(entry.thumbnails is not None for entry in manifest.blocks),
            "blocks": len(manifest.blocks),
            "bytes": store.size(opened.name) if opened.folder.name else None,
            "encoder": {"spec": opened.encoder_spec(side), "fingerprint": fingerprint.digest, **fingerprint.fields},
            "origin": dict(manifest.origin or {}),
            "parent": manifest.parent,
            "operation": dict(manifest.operation),
            "created": manifest.created,
            "asif": manifest.asif,
        }
    if as_json:
        options.print_json({**about, "rejects": _describe_rejects(rejects)})
        return
    shown = {**about, "encoder": f"{opened.encoder_spec(side)}  {fingerprint.digest[:12]}"}
    for key, value in shown.items():
        if isinstance(value, dict):
            options.print_text(f"{key}:")
            for name, inner in value.items():
                options.print_text(f"  {name}: {inner}")
        else:
            options.print_text(f"{key}: {value}")
    _print_rejects(rejects)


@command.command("verify")
@click.argument("ref", metavar="G")
@click.option(
    "--receipt",
    "receipts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check a receipt, too.",
)
@options.home
@options.as_json
def verify(ref: str, receipts: tuple[Path, ...], home: Path | None, as_json: bool) -> None:
    """Check every byte of a gallery, of all versions or of the one that G names, and receipts of what was removed."""
    from asif.anchorset import read_receipt
    from asif.anchorset.format.atomic_io import RESTORE_ADVICE

    store = _open_galleries(home)
    read = [read_receipt(path) for path in receipts]
    report = store.verify(ref)
    checked = store.check_receipts(ref, read) if read and not report.problems else None
    problems = [*report.problems, *(checked.problems if checked else ())]
    if as_json:
        about = {"ref": ref, "files": report.files, "bytes": report.bytes, "receipts": len(read)}
        options.print_json({**about, "problems": [str(problem) for problem in problems]})
    if problems:
        raise IntegrityError(
            str(problems[0]), "the files as they were written, without what was removed", RESTORE_ADVICE
        )
    if not as_json:
        options.print_text(f"{ref}: {report.files} files, {options.format_bytes(report.bytes)}, all as written")
        for path in receipts:
            options.print_text(f"{path}: none of its {ref} rows is left")


@command.command("duplicates")
@click.argument("ref", metavar="G")
@click.option("--near", type=float, default=0.97, show_default=True, help="The least cosine of near duplicates.")
@options.engine
@options.home
@options.as_json
def duplicates(ref: str, near: float, engine: KernelName, home: Path | None, as_json: bool) -> None:
    """List groups of near duplicates, largest first; with --json one object per group."""
    from asif.anchorset import Gallery
    from asif.engine.search.duplicates import find_duplicates

    with Gallery(ref, home=home) as gallery:
        with options.open_progress_bar(len(gallery), gallery.modality) as bar:
            groups = find_duplicates(gallery, near, engine, bar.update)
        for group in groups:
            members = list(zip(group.items, group.cosines, strict=True))
            if as_json:
                found = [{"id": item.id, "uri": item.uri, "cosine": cosine} for item, cosine in members]
                options.print_json({"items": found})
                continue
            for number, (item, cosine) in enumerate(members):
                options.print_text(f"{cosine:.4f}  {item.uri}" if number else item.uri)
        if not as_json:
            copies = sum(len(group.items) - 1 for group in groups)
            options.print_text(f"{len(groups):,} groups; {copies:,} of {len(gallery):,} items are near another one")


@command.command("delete")
@click.argument("name", metavar="G")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@options.home
@options.as_json
def delete(name: str, yes: bool, home: Path | None, as_json: bool) -> None:
    """Delete a gallery with all of its versions; the files that it was made from stay."""
    store = _open_galleries(home)
    size, count = store.size(name), sum(1 for _ in (store.path(name) / "versions").glob("*.json"))
    question = f"delete {name} with {count:,} versions, {options.format_bytes(size)}, for good?"
    if not yes and not options.confirm(question):
        options.print_notice("nothing was deleted")
        return
    from asif.engine import delete_gallery

    deleted = delete_gallery(name, home=home)
    if as_json:
        options.print_json(asdict(deleted))
    else:
        shown = options.format_bytes(deleted.bytes)
        options.print_text(f"{name}: {len(deleted.versions):,} versions deleted, {shown}")


def _open_galleries(home: Path | None) -> Store:
    """Open the store of galleries at `home`, or the default one."""
    from asif.anchorset import Store, default_home
    from asif.anchorset.format.kinds import GALLERY

    return Store(home or default_home(), GALLERY)
