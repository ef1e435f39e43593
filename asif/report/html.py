"""Pages of HTML from templates: the door to Jinja2. Every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
