"""asif anchors audit."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.engine import Engine
    from asif.evaluate.audit import Audited, Probe


@click.command("audit")
@click.argument("ref")
@click.option("--probe", metavar="PATH", help="Pairs, labelled images, or a folder of images: what will be asked.")
@click.option("--pairs", metavar="PATH", help="What the set was built from: for thumbnails alone.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where audit.html and the ids go.")
@click.option("--near", type=float, default=0.9, show_default=True, help="Cosine from which images are near duplicates.")
@click.option(
    "--sample", type=click.IntRange(min=3), default=20_000, show_default=True, help="Of more anchors, ask about so many."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sample.")
@options.device
@options.home
@options.as_json
def command(ref: str, out: Path | None, pairs: str | None, as_json: bool, **given: Any) -> None:
    """Look for what is wrong with an anchor set: copies, pairs that disagree, anchors that are of no use.

    Exact and near duplicates, captions that many images share, pairs whose image and caption disagree, anchors that no
    query uses and those that far too many use, by source and licence. Without --probe each anchor is a query for all
    others. Writes audit.json, audit.html and, for each finding, the ids to remove into the folder; changes nothing.
    """
    from asif.engine import Engine
    from asif.evaluate.audit import Terms, audit

    if pairs is not None and out is None:
        raise UsageError("--pairs without --out", "a folder for the page that shows them", "pass --out FOLDER")
    terms = Terms(given["near"], given["sample"], given["seed"])
    engine = Engine(ref, home=given["home"], device=given["device"])
    probe = probing(engine, given["probe"]) if given["probe"] is not None else None
    with options.progress_bar(0, "row") as bar:

        def progress(what: str, rows: int, total: int) -> None:
            if not rows:
                bar.reset(total)
                bar.set_description(what)
            bar.update(rows)

        found = audit(engine, probe, terms, progress)
    results = {**found.as_dict(), "command": shlex.join(["asif", *sys.argv[1:]])}
    files = write(found, results, out, pairs) if out is not None else []
    if as_json:
        options.print_json(results)
    else:
        show(results)
    if files:
        options.notice(f"written to {out}: {', '.join(files)}")


def probing(engine: Engine, path: str) -> Probe:
    """Encode the probe."""
    from asif.cli.classify import is_image
    from asif.evaluate import Terms
    from asif.evaluate.audit import probe_of

    place = Path(path)
    images = sorted(file for file in place.iterdir() if is_image(file)) if place.is_dir() else []
    if any((place / name).is_file() for name in ("metadata.csv", "metadata.jsonl")):
        images = []
    with options.progress_bar(len(images), "probe") as bar:
        probe = probe_of(engine, path, images, Terms(progress=lambda done: bar.update(done - bar.n)))
    if among := probe.about["images_among_anchors"]:
        options.notice(f"{among:,} of {probe.about['images']:,} images of the probe are anchors too")
    return probe


def write(found: Audited, results: dict[str, Any], out: Path, pairs: str | None) -> list[str]:
    """Write the files of an audit; returns their names."""
    from asif.anchorset.atomic import put_bytes
    from asif.report import audit_page
    from asif.report.audit_words import file_of

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for finding, about in zip(found.findings, results["findings"], strict=True):
        file = out / file_of(finding.kind)
        file.unlink(missing_ok=True)  # that of an earlier audit
        about["ids_file"] = None
        if len(finding.removable):
            put_bytes(file, ("\n".join(found.ids(finding)) + "\n").encode())
            about["ids_file"] = str(file)
            written.append(file.name)
    put_bytes(out / "audit.json", (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    page = audit_page(results, thumbnails(results, pairs), pairs is not None)
    put_bytes(out / "audit.html", page.encode())
    return ["audit.json", "audit.html", *written]


def thumbnails(results: dict[str, Any], pairs: str | None) -> dict[str, bytes]:
    """Make the thumbnails that the page shows."""
    if pairs is None:
        return {}
    from asif.evaluate.audit.pictures import pictures
    from asif.pairs import open_pairs
    from asif.report.audit_page import shown_images

    source, wanted = open_pairs(pairs), shown_images(results)
    with options.progress_bar(source.rows, "thumbnail") as bar:
        found = pictures(source, wanted, bar.update)
    if missing := len(wanted) - len(found):
        options.notice(f"{missing:,} of {len(wanted):,} images are not in {click.format_filename(pairs)}")
    return found


def show(results: dict[str, Any]) -> None:
    """Print the findings for people."""
    from asif.report.audit_words import TITLES, command_of

    anchors, how = results["anchors"], results["how"]
    click.echo(f"{anchors['name']}@{anchors['version']}: {anchors['count']:,} anchors")
    if how["sampled"]:
        click.echo(f"a sample: {how['asked']:,} anchors were asked about; only exact copies were looked for among all")
    rows: list[tuple[str, ...]] = []
    for each in results["findings"]:
        found = f"{each['anchors']:,}" if each["anchors"] else "none"
        share = f"{100 * each['share']:.2f} %" if each["anchors"] else ""
        rows.append((TITLES[each["kind"]], found, share, command_of(results, each)))
    options.table(rows, ("finding", "anchors", "share", "to act on it"))
    for side, each in results["usage"].items():
        click.echo(f"{side} side: skewness of use {each['skewness']:.2f}, {each['unused']:,} anchors unused")
    for each in results["findings"]:
        for note in each["notes"]:
            options.notice(f"{TITLES[each['kind']]}: {note}")
