"""asif anchors audit."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.encoders import Backend, Device
    from asif.engine import Engine
    from asif.evaluate.audit import AuditResult, Probe
    from asif.evaluate.audit.findings import AuditFinding
    from asif.pairs import PairSource


@click.command("audit")
@click.argument("ref")
@click.option(
    "--probe", "probe_path", metavar="PATH", help="Sample queries: pairs, labelled images, or a folder of images."
)
@click.option("--pairs", metavar="PATH", help="The source that the set was built from; for thumbnails only.")
@options.split
@click.option("--pairs-split", metavar="NAME", help="The split of --pairs.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for audit.html and the ids.")
@click.option(
    "--near", type=float, default=0.9, show_default=True, help="Cosine from which images are near duplicates."
)
@click.option(
    "--sample",
    type=click.IntRange(min=3),
    default=20_000,
    show_default=True,
    help="Compare at most this many anchors with all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the sample.")
@options.device
@options.backend
@options.home
@options.as_json
def command(
    ref: str,
    probe_path: str | None,
    pairs: str | None,
    split: str | None,
    pairs_split: str | None,
    out: Path | None,
    near: float,
    sample: int,
    seed: int,
    device: Device,
    backend: Backend,
    home: Path | None,
    as_json: bool,
) -> None:
    """Find what is wrong with an anchor set: duplicates, pairs that disagree, hubs and unused anchors.

    Finds exact and near duplicates, captions that many images share, pairs whose image and caption disagree, anchors
    that no query uses and those that far too many use, and counts them by source and licence. Without --probe each
    anchor is a query for all others. Writes audit.json, audit.html and, for each finding, the ids to remove into the
    folder; changes nothing.
    """
    from asif.engine import Engine
    from asif.evaluate.audit import AuditOptions, audit
    from asif.pairs import open_pairs, redact_url

    if pairs is not None and out is None:
        raise UsageError("--pairs without --out", "a folder for the page that shows them", "pass --out FOLDER")
    if (split is not None and probe_path is None) or (pairs_split is not None and pairs is None):
        raise UsageError(
            "--split without --probe, or --pairs-split without --pairs", "the data to split", "pass both or neither"
        )
    audit_options = AuditOptions(near, sample, seed)
    source = open_pairs(pairs, split=pairs_split) if pairs is not None else None
    engine = Engine(ref, home=home, device=device, backend=backend)
    probe = _encode_probe(engine, probe_path, split) if probe_path is not None else None
    with options.open_progress_bar(0, "row") as bar:

        def progress(step: str, rows: int, total: int) -> None:
            if not rows:
                bar.reset(total)
                bar.set_description(step)
            bar.update(rows)

        result = audit(engine, probe, audit_options, progress)
    result = replace(result, command=shlex.join(["asif", *map(redact_url, sys.argv[1:])]))
    if out is not None:
        removal = ["asif", "anchors", "remove", ref, *(["--home", str(home)] if home else [])]
        result = _write_files(result, out, source, removal)
    if as_json:
        options.print_json(result.to_json())
    else:
        _print_result(result)


def _encode_probe(engine: Engine, path: str, split: str | None) -> Probe:
    """Encode the probe; print notices of what is read, and if some of its images are anchors."""
    from asif.evaluate import RowLimits
    from asif.evaluate.audit import encode_probe
    from asif.modality import find_modality, name_many

    with options.open_progress_bar(0, "probe") as bar:
        limits = RowLimits(progress=lambda done: bar.update(done - bar.n))
        probe = encode_probe(engine, path, limits, split, options.print_notice)
    if among := probe.about["images_among_anchors"]:
        items = name_many(find_modality(engine.anchors, "image"))
        options.print_notice(f"{among:,} of {probe.about['images']:,} {items} of the probe are anchors too")
    return probe


def _write_files(result: AuditResult, out: Path, source: PairSource | None, removal: list[str]) -> AuditResult:
    """Write the files of an audit; return it with the files of ids and the commands that remove them."""
    from asif.anchorset.format.atomic_io import atomic_write_bytes
    from asif.report.audit.page import render_audit_page

    out.mkdir(parents=True, exist_ok=True)
    findings = [_write_ids(finding, result.removable_ids(finding), out, removal) for finding in result.findings]
    result = replace(result, findings=tuple(findings))
    text = json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_bytes(out / "audit.json", text.encode(errors="replace"))  # paths may hold bytes that are no UTF-8
    shown = source if result.modality == "image" else None  # only images have thumbnails
    page = render_audit_page(result, None if shown is None else _read_thumbnails(result, shown))
    atomic_write_bytes(out / "audit.html", page.encode(errors="replace"))
    options.print_notice(f"written to {out}: audit.json, audit.html, and the ids that may go")
    return result


def _write_ids(finding: AuditFinding, ids: list[str], out: Path, removal: list[str]) -> AuditFinding:
    """Write the removable ids of a finding, if it has any; return it with the file and the command to remove them."""
    from asif.anchorset.select.ids_file import write_ids
    from asif.report.audit.text import name_ids_file

    file = out / name_ids_file(finding.kind)
    file.unlink(missing_ok=True)  # that of an earlier audit
    if not ids:
        return finding
    write_ids(file, ids)
    return replace(finding, ids_file=str(file), command=shlex.join([*removal, "--ids-file", str(file)]))


def _read_thumbnails(result: AuditResult, source: PairSource) -> dict[str, bytes]:
    """Read the thumbnails that the page shows; print a notice if some are missing."""
    from asif.evaluate.audit.thumbnails import read_thumbnails
    from asif.report.audit.page import collect_shown_images

    wanted = collect_shown_images(result)
    with options.open_progress_bar(source.rows, "thumbnail") as bar:
        thumbnails = read_thumbnails(source, wanted, bar.update)
    if missing := len(wanted) - len(thumbnails):
        options.print_notice(
            f"{missing:,} of {len(wanted):,} images are not in {click.format_filename(str(source.path))}"
        )
    return thumbnails


def _print_result(result: AuditResult) -> None:
    """Print the findings as text."""
    from asif.modality import find_modality, reword
    from asif.report.audit.text import FINDING_TITLES, format_count, format_share

    anchors, method = result.anchors, result.method
    options.print_text(f"{anchors.name}@{anchors.version}: {anchors.count:,} anchors")
    if method.sampled:
        options.print_text(
            f"a sample: {method.queries:,} anchors were compared with all; exact duplicates are found among all"
        )
    rows: list[tuple[str, ...]] = [
        (
            reword(FINDING_TITLES[finding.kind], result.modality),
            format_count(finding),
            format_share(finding, anchors.count),
            finding.command or "",
        )
        for finding in result.findings
    ]
    options.print_table(rows, ("finding", "anchors", "share", "to act on it"))
    for side, usage in result.usage.items():
        skewness = f"{find_modality(anchors, side)} side: skewness of use {usage.skewness:.2f}"
        options.print_text(f"{skewness}, {usage.unused:,} anchors unused")
    for finding in result.findings:
        for note in finding.notes:
            options.print_notice(f"{reword(FINDING_TITLES[finding.kind], result.modality)}: {note}")
