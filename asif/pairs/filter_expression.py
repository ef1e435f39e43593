"""Filter expressions over pair records, such as `licence != 'CC0-1.0' and caption like '%dog%'`.

SQL's words are translated to Python's, and the result is parsed with `ast`; only a few kinds of node are accepted, and
nothing is evaluated.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence

from asif.errors import UsageError
from asif.pairs.pair import PairRecord

Predicate = Callable[[PairRecord], bool]
FieldReader = Callable[[PairRecord], Sequence[str | None]]
PAIR_FIELDS: dict[str, FieldReader] = {
    "id": lambda pair: (pair.id,),
    "source": lambda pair: (pair.source,),
    "licence": lambda pair: (pair.licence,),
    "license": lambda pair: (pair.licence,),
    "url": lambda pair: (pair.url,),
    "caption": lambda pair: pair.captions,
}
"""The fields of filter expressions over pairs."""
_QUOTES = ("'", '"')
_SYMBOLS = ("=", "==", "!=", "(", ")", "[", "]", ",")
_OPERATORS = {"=": "==", "like": "@"}
_MAX_CHARACTERS = 10_000  # characters
_MAX_DEPTH = 50  # levels of not, brackets, and within or


def parse_where(text: str, fields: Mapping[str, FieldReader] = PAIR_FIELDS) -> Predicate:
    """Compile `field = 'text'`, `!=`, `[not] in ('a', 'b')`, `[not] like 'a%_'`, `and`, `or`, `not`, `()`.

    Fields are id, source, licence (or license), url and caption, or those given; of several captions, one must match.
    Missing fields never match, so `!=` is true of them. In a pattern `%` stands for any text, `_` for one character;
    case matters, and a backslash is literal. Raises UsageError for anything else, and for more than 50 levels.

    >>> holds = parse_where("caption like '%dog%' and not source = 'web'")
    >>> holds(PairRecord("1", ("a cat", "two dogs"), "…")), holds(PairRecord("2", ("a dog",), "…", source="web"))
    (True, False)
    """
    try:
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"more than {_MAX_CHARACTERS:,} characters")
        return _compile_node(ast.parse(_translate_to_python(text), mode="eval").body, _MAX_DEPTH, fields)
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"the expression {text[:80]!r}: {error.args[0] if error.args else 'too deep'}",
            f"comparisons of {', '.join(name for name in fields if name != 'license')} with =, !=, in (…), like, "
            "joined by and, or, not",
            "write for example: licence = 'CC-BY-4.0' and caption like '%dog%'",
        ) from None


def list_fields(text: str) -> set[str]:
    """Return the fields that a valid expression compares.

    >>> sorted(list_fields("caption like '%dog%' and not source = 'web'"))
    ['caption', 'source']
    """
    tree = ast.parse(_translate_to_python(text), mode="eval")
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _translate_to_python(text: str) -> str:
    """Translate SQL's words to Python's: `like` becomes the operator `@`, and `not like` `%`."""
    words: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ").strip()).readline):
        if token.type == tokenize.STRING and token.string[0] in _QUOTES:
            if words and words[-1][:1] == "r" and words[-1][1:2] in _QUOTES:
                raise ValueError("two texts side by side: put double quotes around one with a quote in it")
            words.append("r" + token.string)
        elif token.type == tokenize.NAME or token.string in _SYMBOLS:
            word = _OPERATORS.get(token.string.lower(), token.string.lower())
            if word == "@" and words[-1:] == ["not"]:
                words[-1] = "%"
            else:
                words.append(word)
        elif token.type not in (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER):
            raise ValueError(f"{token.string!r} is not understood")
    return " ".join(words)


def _compile_node(node: ast.expr, depth: int, fields: Mapping[str, FieldReader]) -> Predicate:
    if not depth:
        raise ValueError(f"more than {_MAX_DEPTH} levels of not, brackets, and within or")
    if isinstance(node, ast.BoolOp):
        parts = [_compile_node(value, depth - 1, fields) for value in node.values]
        every = all if isinstance(node.op, ast.And) else any
        return lambda pair: every(part(pair) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compile_node(node.operand, depth - 1, fields)
        return lambda pair: not inner(pair)
    if isinstance(node, ast.BinOp):
        matches, field = _compile_like(_read_text(node.right)), _find_field(node.left, fields)
        fits = isinstance(node.op, ast.MatMult)
        return lambda pair: fits == any(value is not None and matches(value) for value in field(pair))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _compile_comparison(_find_field(node.left, fields), node.ops[0], node.comparators[0])
    raise ValueError(f"{ast.unparse(node)[:40]!r} is no comparison")


def _compile_comparison(field: FieldReader, operator: ast.cmpop, right: ast.expr) -> Predicate:
    if isinstance(operator, ast.In | ast.NotIn):
        listed = right.elts if isinstance(right, ast.Tuple | ast.List) else [right]
        values = frozenset(map(_read_text, listed))
    elif isinstance(operator, ast.Eq | ast.NotEq):
        values = frozenset({_read_text(right)})
    else:
        raise ValueError("texts are compared with =, !=, in and like alone")
    if isinstance(operator, ast.NotIn | ast.NotEq):
        return lambda pair: values.isdisjoint(field(pair))
    return lambda pair: not values.isdisjoint(field(pair))


def _find_field(node: ast.expr, fields: Mapping[str, FieldReader]) -> FieldReader:
    name = node.id if isinstance(node, ast.Name) else ast.unparse(node)
    if name not in fields:
        raise ValueError(f"{name[:40]!r} is no field")
    return fields[name]


def _read_text(node: ast.expr) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError(f"{ast.unparse(node)[:40]!r} is no text in quotes")
    return node.value


def _compile_like(like: str) -> Callable[[str], bool]:
    """Compile a `like` pattern; a match takes time in proportion to the text, however many `%` there are.

    >>> matches = _compile_like("a%_.")
    >>> [matches(text) for text in ("ab.", "abc.", "a.", "ab.c")]
    [True, True, False, False]
    """
    parts = [re.compile(re.escape(part).replace("_", "."), re.DOTALL) for part in like.split("%")]
    first, *middle = parts
    if not middle:
        return lambda text: first.fullmatch(text) is not None
    last_length = len(like.rpartition("%")[2])
    last = middle.pop()

    def matches(text: str) -> bool:
        start = first.match(text)
        at, end = start.end() if start else 0, len(text) - last_length
        for part in middle if start else ():  # the leftmost place of each part leaves the most for the next
            found = part.search(text, at, max(at, end))
            if found is None:
                return False
            at = found.end()
        return start is not None and at <= end and last.fullmatch(text, end) is not None

    return matches
