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
    from asif.pairs import PairSource


@click.command("audit")
@click.argument("ref")
@click.option("--probe", metavar="PATH", help="Pairs, labelled images, or a folder of images: what will be asked.")
@click.option("--pairs", metavar="PATH", help="What the set was built from: for thumbnails alone.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where audit.html and the ids go.")
@click.option(
    "--near", type=float, default=0.9, show_default=True, help="Cosine from which images are near duplicates."
)
@click.option(
    "--sample",
    type=click.IntRange(min=3),
    default=20_000,
    show_default=True,
    help="Of more anchors, ask about so many.",
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
    from asif.pairs import open_pairs, redacted

    if pairs is not None and out is None:
        raise UsageError("--pairs without --out", "a folder for the page that shows them", "pass --out FOLDER")
    terms = Terms(given["near"], given["sample"], given["seed"])
    source = open_pairs(pairs) if pairs is not None else None
    engine = Engine(ref, home=given["home"], device=given["device"])
    probe = probing(engine, given["probe"]) if given["probe"] is not None else None
    with options.progress_bar(0, "row") as bar:

        def progress(what: str, rows: int, total: int) -> None:
            if not rows:
                bar.reset(total)
                bar.set_description(what)
            bar.update(rows)

        found = audit(engine, probe, terms, progress)
    results = {**found.as_dict(), "command": shlex.join(["asif", *map(redacted, sys.argv[1:])])}
    if out is not None:
        removal = ["asif", "anchors", "remove", ref, *(["--home", str(given["home"])] if given["home"] else [])]
        write(found, results, out, source, removal)
    if as_json:
        options.print_json(results)
    else:
        show(results)


def probing(engine: Engine, path: str) -> Probe:
    """Encode the probe."""
    from asif.evaluate import Terms
    from asif.evaluate.audit import probe_of

    with options.progress_bar(0, "probe") as bar:
        probe = probe_of(engine, path, Terms(progress=lambda done: bar.update(done - bar.n)))
    if among := probe.about["images_among_anchors"]:
        options.notice(f"{among:,} of {probe.about['images']:,} images of the probe are anchors too")
    return probe


def write(found: Audited, results: dict[str, Any], out: Path, source: PairSource | None, removal: list[str]) -> None:
    """Write the files of an audit."""
    from asif.anchorset.format.atomic_io import put_bytes
    from asif.report.audit.page import audit_page

    out.mkdir(parents=True, exist_ok=True)
    for finding, about in zip(found.findings, results["findings"], strict=True):
        write_ids(found.ids(finding), about, out, removal)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    put_bytes(out / "audit.json", text.encode(errors="replace"))  # paths may hold bytes that are no UTF-8
    page = audit_page(results, None if source is None else thumbnails(results, source))
    put_bytes(out / "audit.html", page.encode(errors="replace"))
    options.notice(f"written to {out}: audit.json, audit.html, and the ids that may go")


def write_ids(ids: list[str], about: dict[str, Any], out: Path, removal: list[str]) -> None:
    """Write the ids that may go for one finding, if there are any, and complete the command that removes them.

    An id with a line break in it would be read back as two, which may be those of other pairs: it is left out.
    """
    from asif.anchorset.format.atomic_io import put_bytes
    from asif.report.audit.text import file_of

    file = out / file_of(about["kind"])
    file.unlink(missing_ok=True)  # that of an earlier audit
    plain = [name for name in ids if name.splitlines() == [name.strip()]]
    if len(plain) < len(ids):
        options.notice(f"{len(ids) - len(plain):,} ids with line breaks or blanks around them are not in {file}")
    if plain:
        put_bytes(file, ("\n".join(plain) + "\n").encode())
        about["ids_file"] = str(file)
        about["command"] = shlex.join([*removal, "--ids-file", str(file)])


def thumbnails(results: dict[str, Any], source: PairSource) -> dict[str, bytes]:
    """Make the thumbnails that the page shows."""
    from asif.evaluate.audit.thumbnails import pictures
    from asif.report.audit.page import shown_images

    wanted = shown_images(results)
    with options.progress_bar(source.rows, "thumbnail") as bar:
        found = pictures(source, wanted, bar.update)
    if missing := len(wanted) - len(found):
        options.notice(f"{missing:,} of {len(wanted):,} images are not in {click.format_filename(str(source.path))}")
    return found


def show(results: dict[str, Any]) -> None:
    """Print the findings for people."""
    from asif.report.audit.text import TITLES

    anchors, how = results["anchors"], results["how"]
    click.echo(f"{anchors['name']}@{anchors['version']}: {anchors['count']:,} anchors")
    if how["sampled"]:
        click.echo(f"a sample: {how['asked']:,} anchors were asked about; only exact copies were looked for among all")
    rows: list[tuple[str, ...]] = []
    for each in results["findings"]:
        found = f"{each['anchors']:,}" if each["anchors"] else "none"
        share = f"{100 * each['share']:.2f} %" if each["anchors"] else ""
        rows.append((TITLES[each["kind"]], found, share, each["command"] or ""))
    options.table(rows, ("finding", "anchors", "share", "to act on it"))
    for side, each in results["usage"].items():
        click.echo(f"{side} side: skewness of use {each['skewness']:.2f}, {each['unused']:,} anchors unused")
    for each in results["findings"]:
        for note in each["notes"]:
            options.notice(f"{TITLES[each['kind']]}: {note}")
