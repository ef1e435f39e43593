"""How `asif search` writes what it found: JSON, CSV, or a list for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from asif.cli import options
from asif.cli.classification_forms import join_cells, print_contributions, quote_cell, shorten_caption
from asif.modality import name_many

if TYPE_CHECKING:
    from asif.engine.search.results import HubUsed, SearchAnswer, SearchEvidence, SearchOptions, SearchResult

CSV_HEADER = "query,rank,id,uri,score,chance,error"
_REASONS_INDENT = " " * 7


def format_as_json(answer: SearchAnswer, settings: Mapping[str, Any]) -> str:
    """Return the line that --json prints for one query; `aligner` is null where none was used."""
    from asif.report.answers import describe_search_answer

    return options.format_json(describe_search_answer(answer, settings))


def format_as_csv(answer: SearchAnswer) -> Iterator[str]:
    """Yield the lines that --csv prints for one query: one for each result, or one with the error."""
    query = quote_cell(str(answer.query))
    if answer.error is not None:
        yield join_cells(query, "", "", "", "", "", quote_cell(answer.error.came))
    for rank, result in enumerate(answer.results, 1):
        cells = quote_cell(result.id), quote_cell(result.uri), result.score, f"{result.chance:.3g}", ""
        yield join_cells(query, rank, *cells)


def print_answer(answer: SearchAnswer, chosen: SearchOptions, separate: bool) -> None:
    """Print the results of a query under its name, with the anchors behind them."""
    if separate:
        options.print_text()
    if answer.error is not None:
        options.print_text(f"{answer.query}: cannot be read: {answer.error.came}", err=True)
        return
    from asif.engine.search.chance import format_chance

    options.print_text(f"{answer.query}", bold=True)
    options.print_text(f"  {_describe_relevance(answer, chosen)}", dim=True)
    for rank, result in enumerate(answer.results, chosen.offset + 1):
        options.print_text(f"{rank:5}  {result.score:7.4f}  {format_chance(result.chance):>9}  {_name_result(result)}")
        if result.evidence is not None:
            _print_evidence(result.evidence, answer)


def _name_result(result: SearchResult) -> str:
    """Return where an item is, or its text."""
    text = result.item.captions[0] if result.item.captions and not result.item.uri.endswith(result.id) else ""
    return f"{result.uri}  {shorten_caption(text)}".rstrip()


def _describe_relevance(answer: SearchAnswer, chosen: SearchOptions) -> str:
    """Say how many results are above chance.

    The first k + offset items are looked at, so that all of them being above chance means: at least so many.
    """
    most = answer.relevant == chosen.k + chosen.offset < answer.searched
    found = f"{answer.relevant:,}{' or more' if most else ''} of {answer.searched:,} are above chance"
    if answer.recall is not None:
        found += f"; the search is approximate and finds {100 * answer.recall:.0f}% of the results"
    if answer.hub is not None:
        found += f"; {_describe_hub(answer.hub)}"
    return found if answer.space == "shared" else f"{found}, compared as {name_many(answer.space)}"


def _describe_hub(hub: HubUsed) -> str:
    """Say by way of which texts a query was compared, and what gets lost on such a way."""
    lost = hub.loss
    about = f"by way of the captions of {hub.anchors.name}, such as {', '.join(map(repr, hub.captions))}"
    if lost is None:
        return about
    return f"{about}, where {100 * lost.kept:.0f}% of the {lost.compared} items that a caption finds are kept"


def _print_evidence(evidence: SearchEvidence, answer: SearchAnswer) -> None:
    """Print the anchors that contribute to a score, and each part's share of it if there are several."""
    print_contributions(evidence.contributions, evidence.records, evidence.hubness, _REASONS_INDENT, evidence.spans)
    if len(evidence.parts) > 1:
        shares = (f"{part} {value:.4f}" for part, value in zip(answer.query.parts, evidence.parts, strict=True))
        options.print_text(f"{_REASONS_INDENT}of which {', '.join(shares)}")
