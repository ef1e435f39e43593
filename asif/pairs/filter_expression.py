"""Expressions over what is remembered of pairs, such as `licence != 'CC0-1.0' and caption like '%dog%'`.

They are read by Python's own parser, after SQL's words are put in Python's; only a handful of nodes is understood, and
nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Sequence

from asif.errors import UsageError
from asif.pairs.pair import PairRecord

Holds = Callable[[PairRecord], bool]
FIELDS: dict[str, Callable[[PairRecord], Sequence[str | None]]] = {
    "id": lambda pair: (pair.id,),
    "source": lambda pair: (pair.source,),
    "licence": lambda pair: (pair.licence,),
    "license": lambda pair: (pair.licence,),
    "url": lambda pair: (pair.url,),
    "caption": lambda pair: pair.captions,
}
QUOTES = ("'", '"')
ALLOWED = ("=", "==", "!=", "(", ")", "[", "]", ",")
WORDS = {"=": "==", "like": "@"}
_LONGEST = 10_000  # characters


def parse_where(text: str) -> Holds:
    """Read an expression: `field = 'text'`, `!=`, `[not] in ('a', 'b')`, `[not] like 'a%_'`, `and`, `or`, `not`, `()`.

    Fields are id, source, licence (or license), url and caption, of which a pair may have several: one must fit. What a
    pair does not have is equal to nothing, so that `!=` is true of it. In a pattern `%` stands for any text, `_` for
    one character; capitals matter, and a backslash is itself. Raises UsageError for anything else.

    >>> holds = parse_where("caption like '%dog%' and not source = 'web'")
    >>> holds(PairRecord("1", ("a cat", "two dogs"), "…")), holds(PairRecord("2", ("a dog",), "…", source="web"))
    (True, False)
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"more than {_LONGEST:,} characters")
        return _node(ast.parse(_as_python(text), mode="eval").body)
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"the expression {text[:80]!r}: {error.args[0] if error.args else 'too deep'}",
            "comparisons of id, source, licence, url, caption with =, !=, in (…), like, joined by and, or, not",
            "write for example: licence = 'CC-BY-4.0' and caption like '%dog%'",
        ) from None


def _as_python(text: str) -> str:
    """Put SQL's words in Python's: `like` becomes the operator `@`, and `not like` `%`."""
    words: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ").strip()).readline):
        if token.type == tokenize.STRING and token.string[0] in QUOTES:
            if words and words[-1][:1] == "r" and words[-1][1:2] in QUOTES:
                raise ValueError("two texts side by side: put double quotes around one with a quote in it")
            words.append("r" + token.string)
        elif token.type == tokenize.NAME or token.string in ALLOWED:
            word = WORDS.get(token.string.lower(), token.string.lower())
            if word == "@" and words[-1:] == ["not"]:
                words[-1] = "%"
            else:
                words.append(word)
        elif token.type not in (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER):
            raise ValueError(f"{token.string!r} is not understood")
    return " ".join(words)


def _node(node: ast.expr) -> Holds:
    if isinstance(node, ast.BoolOp):
        parts = [_node(value) for value in node.values]
        every = all if isinstance(node.op, ast.And) else any
        return lambda pair: every(part(pair) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _node(node.operand)
        return lambda pair: not inner(pair)
    if isinstance(node, ast.BinOp):
        pattern, field, fits = _pattern(_text(node.right)), _field(node.left), isinstance(node.op, ast.MatMult)
        return lambda pair: fits == any(value is not None and pattern.fullmatch(value) for value in field(pair))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _comparison(node.left, node.ops[0], node.comparators[0])
    raise ValueError(f"{ast.unparse(node)[:40]!r} is no comparison")


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Holds:
    field = _field(left)
    if isinstance(operator, ast.In | ast.NotIn):
        listed = right.elts if isinstance(right, ast.Tuple | ast.List) else [right]
        values = frozenset(map(_text, listed))
    elif isinstance(operator, ast.Eq | ast.NotEq):
        values = frozenset({_text(right)})
    else:
        raise ValueError("texts are compared with =, !=, in and like alone")
    if isinstance(operator, ast.NotIn | ast.NotEq):
        return lambda pair: values.isdisjoint(field(pair))
    return lambda pair: not values.isdisjoint(field(pair))


def _field(node: ast.expr) -> Callable[[PairRecord], Sequence[str | None]]:
    name = node.id if isinstance(node, ast.Name) else ast.unparse(node)
    if name not in FIELDS:
        raise ValueError(f"{name[:40]!r} is no field")
    return FIELDS[name]


def _text(node: ast.expr) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError(f"{ast.unparse(node)[:40]!r} is no text in quotes")
    return node.value


def _pattern(like: str) -> re.Pattern[str]:
    """Turn a pattern of `like` into a regular expression.

    >>> _pattern("a%_.").pattern
    'a.*.\\\\.'
    """
    parts = (".*" if part == "%" else "." if part == "_" else re.escape(part) for part in re.split("([%_])", like))
    return re.compile("".join(parts), re.DOTALL)
