"""asif search."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.app import EXIT_BAD_DATA
from asif.cli.search_forms import CSV_HEADER, format_as_csv, format_as_json, print_answer
from asif.defaults import DEFAULT_ANCHORS
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset import Gallery
    from asif.engine import Engine
    from asif.engine.search.query import Query
    from asif.engine.search.results import SearchAnswer

_EXPLAINED_ANCHORS = 5


@click.command("search")
@click.argument("gallery", metavar="G")
@click.option("--text", "texts", multiple=True, metavar="T", help="A text to search for; '2:kite' counts twice.")
@click.option("--image", "images", multiple=True, metavar="FILE", help="An image to search for.")
@click.option("--audio", "sounds", multiple=True, metavar="FILE", help="A sound to search for.")
@click.option("--id", "items", multiple=True, metavar="ID", help="An item of the gallery to search for.")
@click.option("--minus", multiple=True, metavar="T", help="A text whose meaning is taken away.")
@click.option("--texts-file", type=click.Path(path_type=Path), help="One query for each line that is not blank.")
@click.option("--images-file", type=click.Path(path_type=Path), help="One query for each path, one a line.")
@click.option(
    "--anchors",
    default=DEFAULT_ANCHORS,
    show_default=True,
    metavar="REF",
    help="Pairs that connect images, or sounds, and texts: name, name@alias, name@3, or name+other.",
)
@click.option(
    "--via",
    metavar="REF",
    help="Anchors that turn what --anchors does not pair into texts: sounds, for a gallery of photos.",
)
@options.aligner
@click.option("-k", "--count", type=click.IntRange(min=1), default=20, show_default=True, help="Results of a query.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out the first N results.")
@click.option("--where", metavar="EXPR", help="Only items that match: label = 'cat' and not uri like '%/raw/%'.")
@click.option("--approximate", is_flag=True, help="Look into some items only; says how many of the results it finds.")
@click.option("--only-relevant", is_flag=True, help="Leave out results that chance would bring.")
@click.option("--explain", is_flag=True, help="Name the anchors behind each result.")
@options.search_engine
@options.device
@options.backend
@options.home
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: query, rank, id, uri, score, chance, error.")
@click.option("--html", type=click.Path(path_type=Path), metavar="OUT.html", help="Write a page with the results.")
@options.overwrite
def command(gallery: str, as_json: bool, as_csv: bool, html: Path | None, overwrite: bool, **params: Any) -> None:
    """Search a gallery by words, images or sounds, or several of them.

    All of --text, --image, --audio, --id and --minus are one query, each part a vector of unit length. A query of
    images alone is compared in the space of the image encoder, others by way of the anchors. CHANCE is the share of
    anchors of other pairs that would score as high for the query.
    """
    from asif.anchorset import Gallery
    from asif.engine.search.results import SearchOptions
    from asif.report.answers import describe_task

    if as_csv and (as_json or params["explain"]):
        raise UsageError("--csv with --json or --explain", "one form of output", "explanations are in that of --json")
    options.check_output(html, overwrite)
    chosen = SearchOptions(
        params["count"],
        params["offset"],
        params.pop("where"),
        params["only_relevant"],
        _EXPLAINED_ANCHORS if params["explain"] or html is not None else 0,
        params["approximate"],
    )
    queries = _read_queries(params)
    with ExitStack() as stack:
        opened = stack.enter_context(Gallery(gallery, home=params["home"]))
        engine = stack.enter_context(options.open_engine(params, *options.make_chosen_aligner(params)))
        progress = stack.enter_context(options.DelayedProgress(opened.modality))
        answers = engine.search(opened, queries=queries, **asdict(chosen), via=params["via"], progress=progress)
        settings = describe_task(engine, "search")
        failed = 0
        if as_csv:
            options.print_data(CSV_HEADER)
        for number, found in enumerate(_keep_for_page(answers, opened, engine, html, settings)):
            answer = found if params["explain"] else found.without_evidence()  # the reasons are for the page
            failed += answer.error is not None
            if as_json:
                options.print_data(format_as_json(answer, settings))
            elif as_csv:
                for line in format_as_csv(answer):
                    options.print_data(line)
            else:
                print_answer(answer, chosen, separate=number > 0)
    if failed:
        options.print_notice(f"{failed} of {len(queries)} queries have {_name_files(queries)} that could not be read")
        sys.exit(EXIT_BAD_DATA)


def _name_files(queries: list[Query]) -> str:
    """Name what the files of queries are."""
    from asif.modality import name_one

    return " or ".join(sorted({name_one(part.kind) for query in queries for part in query.parts if part.is_file}))


def _keep_for_page(
    answers: Iterator[SearchAnswer], gallery: Gallery, engine: Engine, html: Path | None, settings: dict[str, Any]
) -> Iterator[SearchAnswer]:
    """Yield answers; then write the page with all of them, if one is wanted."""
    if html is None:
        yield from answers
        return
    from asif.anchorset.format.atomic_io import atomic_write_bytes
    from asif.report.search.page import render_search_page

    kept = []
    for answer in answers:
        kept.append(answer)
        yield answer
    page = render_search_page(
        kept,
        kind=gallery.modality,
        aligner=settings["aligner"],
        thumbnail=gallery.thumbnail,
        pair_thumbnails=_read_pair_thumbnails(kept, engine),
    )
    atomic_write_bytes(html, page.encode(errors="replace"))
    options.print_notice(f"written to {html}")


def _read_pair_thumbnails(answers: list[SearchAnswer], engine: Engine) -> dict[str, bytes]:
    """Read the thumbnails of the pairs behind results; print a notice if some are missing that were built of files."""
    from asif.engine.pair_thumbnails import PairThumbnails
    from asif.report.search.pictures import list_shown_pairs

    pairs, thumbnails = list_shown_pairs(answers), PairThumbnails(engine.anchors, engine.home)
    found = thumbnails.read(pairs) if pairs else {}
    missing = len(pairs) - len(found)
    if missing and thumbnails.places:
        places = ", ".join(map(click.format_filename, thumbnails.places))
        options.print_notice(f"{missing:,} of {len(pairs):,} pairs have no picture: their images are not in {places}")
    return found


def _read_queries(params: dict[str, Any]) -> list[Query]:
    """Return the one query of the options, or those of a file."""
    from asif.engine.search.query import Query

    files = {name: params[name] for name in ("texts_file", "images_file") if params[name] is not None}
    parts = any(params[name] for name in ("texts", "images", "sounds", "items", "minus"))
    if len(files) + parts != 1:
        raise UsageError(
            "several kinds of queries" if files else "no query",
            "--text, --image, --audio, --id and --minus for one query, or --texts-file, or --images-file",
            "pass for example --text 'a red kite'",
        )
    if parts:
        return [Query.of(params["texts"], params["images"], params["items"], params["minus"], params["sounds"])]
    ((name, path),) = files.items()
    lines = _read_lines(path)
    return [Query.of(texts=[line]) if name == "texts_file" else Query.of(images=[line]) for line in lines]


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a file that are not blank; `-` is stdin."""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "a text file in UTF-8", "check the file") from error
    if not lines:
        raise UsageError(f"{path} holds no query", "one query a line", "check the file")
    return lines
