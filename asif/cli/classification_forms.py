"""How `asif classify` writes what it found: JSON, CSV, one line per image, or all labels with their evidence."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options

if TYPE_CHECKING:
    from asif.engine import Classification, Credits
    from asif.engine.clip_spans import ClipSpan
    from asif.explain import Contributions
    from asif.pairs import PairRecord

_CSV_COLUMNS = "rank,label,score,error"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # with which a cell of a spreadsheet may be executed
_CAPTION_WIDTH = 90
_NAME_WIDTH = 60  # to which names of images are aligned


def format_as_json(result: Classification, settings: Mapping[str, Any], modality: str) -> str:
    """Return the line that --json prints for one image, or sound."""
    from asif.report.answers import describe_classification

    return options.format_json(describe_classification(result, _printable_name(result), settings, modality))


def format_csv_header(modality: str) -> str:
    """Return the first line of --csv; names are those of images, or sounds."""
    return f"{modality},{_CSV_COLUMNS}"


def format_as_csv(result: Classification) -> Iterator[str]:
    """Yield the lines that --csv prints for one image: one for each label, or one with the error."""
    name = quote_cell(_printable_name(result))
    if result.error is not None:
        yield join_cells(name, "", "", "", quote_cell(result.error.came))
    for rank, prediction in enumerate(result.predictions, 1):
        yield join_cells(name, rank, quote_cell(prediction.label), prediction.score, "")


def quote_cell(text: str) -> str:
    r"""Return a text as a cell of one line that a spreadsheet shows, and does not execute.

    Control characters are escaped; a text that begins with = + - @, a tab or a carriage return gets an apostrophe.

    >>> quote_cell("=1+1"), quote_cell("a dog"), quote_cell("\tcat")
    ("'=1+1", 'a dog', "'\\tcat")
    """
    return ("'" if text.startswith(_FORMULA_STARTS) else "") + options.escape_controls(text)


def join_cells(*cells: object) -> str:
    """Join cells to a line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def print_short_form(result: Classification, names: int, labels: int) -> None:
    """Print an image with its first label and score; names and labels are padded to these lengths."""
    if result.error is not None:
        _print_error(result)
        return
    name, first = _printable_name(result), result.predictions[0]
    options.print_text(f"{name.ljust(min(names, _NAME_WIDTH))}  {first.label.ljust(labels)}  {first.score:.4f}")


def print_long_form(result: Classification, titled: bool) -> None:
    """Print all labels of an image, under its name if there are several images, with evidence and credits."""
    if result.error is not None:
        _print_error(result)
        return
    if titled:
        options.print_text(_printable_name(result), bold=True)
    for prediction in result.predictions:
        options.print_text(f"{prediction.score:7.4f}  {prediction.label}")
    if result.evidence is not None:
        _print_evidence(result)
    if result.credits is not None:
        _print_credits(result.credits)


def _printable_name(result: Classification) -> str:
    """Return the image's name, with bytes that are not UTF-8 replaced."""
    return click.format_filename(result.image)


def _print_error(result: Classification) -> None:
    """Print why an image cannot be read, to stderr."""
    assert result.error is not None
    options.print_text(f"{_printable_name(result)}: cannot be read: {result.error.came}", err=True)


def _print_evidence(result: Classification) -> None:
    """Print the anchors that contribute to the score of the first label."""
    assert result.evidence is not None
    split = result.evidence.contributions
    first = result.predictions[0]
    options.print_text(f"  '{first.label}' has {first.score:.4f} from these anchors:")
    evidence = result.evidence
    print_contributions(split, evidence.records, evidence.hubness, "  ", evidence.spans)


def print_contributions(
    split: Contributions,
    records: Sequence[PairRecord],
    hubness: float,
    indent: str,
    spans: Sequence[ClipSpan | None] = (),
) -> None:
    """Print the anchors that contribute to a score, the sum of all others, and what was taken off."""
    for value, record, span in zip(split.values, records, spans or [None] * len(records), strict=True):
        caption = shorten_caption(record.captions[0]) if record.captions else ""
        clip = "" if span is None else f"  ({span})"
        options.print_text(f"{indent}{value:8.4f}  {record.id}  {caption}{clip}".rstrip())
    if split.others:
        options.print_text(f"{indent}{split.remainder:8.4f}  {split.others} further anchors")
    if hubness:
        options.print_text(f"{indent}{-hubness:8.4f}  taken off for hubness")


def shorten_caption(text: str) -> str:
    """Return the beginning of a long text.

    >>> shorten_caption("a dog"), len(shorten_caption("a" * 100))
    ('a dog', 90)
    """
    return text if len(text) <= _CAPTION_WIDTH else text[: _CAPTION_WIDTH - 1] + "…"


def _print_credits(credits: Credits) -> None:
    """Print the credits of the pairs behind the first label, and the number of pairs without any."""
    known = [pair for pair in credits.records if pair.source or pair.licence or pair.url]
    for pair in known:
        credit = "  ".join(part for part in (pair.licence or "no licence given", pair.source, pair.url) if part)
        options.print_text(f"  credit: {pair.id}  {credit}")
    if len(known) < len(credits.records):
        options.print_text(f"  credit: {len(credits.records) - len(known)} pairs without source, licence and url")
    if credits.others:
        options.print_text(f"  credit: {credits.others:,} further pairs: all anchors have a part in such a score")
