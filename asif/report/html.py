"""Pages of HTML from templates: the door to Jinja2. Every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asif.report.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"

_TEXT_COLUMNS = frozenset(
    {"", "setting", "licence", "hubness", "what", "source", "deletion", "ahead", "query", "method", "training-free"}
)
_WRAPPED_COLUMNS = frozenset({"what", "source", "deletion", "query", "setting"})


def render(template: str, **context: Any) -> str:
    """Render a template of the templates folder; a name that the context lacks raises jinja2.UndefinedError.

    >>> page = render("base.html.jinja", title="a < b")
    >>> "<title>a &lt; b</title>" in page
    True
    """
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    """Return the one environment; jinja2 is loaded with the first page, not with asif."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stylesheet = (_TEMPLATES.parent / "page.css").read_text(encoding="utf-8")
    environment.globals["stylesheet"] = Markup(stylesheet)
    environment.filters.update(column_class=_find_column_class, thousands="{:,}".format)
    return environment


def _find_column_class(name: str) -> str:
    """Return the CSS classes of a table's column, by its name; numbers need none.

    >>> _find_column_class("query"), _find_column_class("licence"), _find_column_class("anchors")
    ('text wrap', 'text', '')
    """
    classes = (("text", _TEXT_COLUMNS), ("wrap", _WRAPPED_COLUMNS))
    return " ".join(css_class for css_class, columns in classes if name in columns)


def document(title: str, body: str, colours: str = "") -> str:
    """Write a page of `body`, which is markup already, that loads nothing from outside; `colours` is further CSS."""
    style = files("asif.report").joinpath("page.css").read_text(encoding="utf-8") + colours
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>{body}</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Write a paragraph.

    >>> paragraph("a < b", "soft")
    '<p class="soft">a &lt; b</p>'
    """
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(given: Table) -> str:
    """Write a table: words on the left, numbers on the right, long texts wrapped."""
    head = "".join(f"<th{kind(name)}>{escape(name)}</th>" for name in given.header)
    body = "".join(row(given.header, cells) for cells in given.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def row(header: tuple[str, ...], cells: tuple[str, ...]) -> str:
    """Write one row of a table."""
    written = (f"<td{kind(name)}>{escape(cell)}</td>" for name, cell in zip(header, cells, strict=True))
    return f"<tr>{''.join(written)}</tr>"


def kind(column: str) -> str:
    """Return the class of a column's cells."""
    names = _find_column_class(column)
    return f' class="{names}"' if names else ""


def facts(given: Mapping[str, str]) -> str:
    """Write a list of names with what they stand for, those that stand for nothing left out."""
    return (
        f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(said)}</dd>' for name, said in given.items() if said)}</dl>"
    )


def points(given: Iterable[str]) -> str:
    """Write a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in given)}</ul>"


def figure(picture: str, caption: str) -> str:
    """Write a picture, which is markup already, over its caption."""
    return f'<figure><div class="scroll">{picture}</div><figcaption>{escape(caption)}</figcaption></figure>'


def folded(given: Table) -> str:
    """Write a long table that is shown when it is asked for."""
    return f"<details><summary>{escape(given.title)}: {len(given.rows):,} rows</summary>{table(given)}</details>"
