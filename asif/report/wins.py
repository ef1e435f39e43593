"""What either of two methods wins: shares of the queries, classes, and queries that only one answers, as HTML."""

from __future__ import annotations

from html import escape

from asif.evaluate.comparison.statistics import Results, queries
from asif.report.html import paragraph, table
from asif.report.table import Table

CLASSES = 12  # shown for each side, the largest differences
QUERIES = 8
SIDES = {"image": "image → caption", "text": "caption → image"}


def won(win: Results) -> str:
    """Write what each of two methods wins on one data set, from one sample of the pairs."""
    first, second = win["first"]["method"], win["second"]["method"]
    said = " and ".join(f"{each['method']} ({corrected(each)})" for each in (win["first"], win["second"]))
    parts = [paragraph(f"{said}, fitted on the same {win['pairs']:,} pairs, seed {win['seed']}.", "soft"), shares(win)]
    if win["classes"]:
        parts += [f"<h3>Accuracy by class: {escape(second)} to the left, {escape(first)} to the right</h3>", bars(win)]
    for name, sign in ((first, 1), (second, -1)):
        ahead = [each for each in win["queries"] if sign * (each["second_rank"] - each["first_rank"]) > 0]
        if ahead:
            parts += [f"<h3>Where {escape(name)} is far ahead: examples</h3>", table(examples(ahead, first, second))]
    return "".join(parts)


def corrected(method: Results) -> str:
    """Say how a method was corrected for hubness."""
    return "no hubness correction" if method["hubness"] == "none" else method["hubness"]


def shares(win: Results) -> str:
    """Draw one bar of all queries: answered rightly by both methods, by one of them, by none."""
    counts, total = win["counts"], queries(win["counts"])
    first, second = win["first"]["method"], win["second"]["method"]
    named = {
        "both": ("both", "both"),
        "first_only": (f"{first} alone", "first"),
        "second_only": (f"{second} alone", "second"),
        "neither": ("neither", "neither"),
    }
    if not total:
        return paragraph("No query was asked.")
    bar = "".join(
        f'<i class="{kind}" style="width:{100 * counts[key] / total:.2f}%"></i>' for key, (_, kind) in named.items()
    )
    key = "".join(
        f'<li><i class="{kind}"></i>{escape(name)} {counts[key]:,} ({100 * counts[key] / total:.1f} %)</li>'
        for key, (name, kind) in named.items()
    )
    return f'<div class="stack">{bar}</div><ul class="key">{key}</ul>'


def bars(win: Results) -> str:
    """Draw the classes with the largest differences: to the right where the first method is better."""
    known = [each for each in win["classes"] if each["first"] is not None and each["second"] is not None]
    ordered = sorted((each for each in known if each["first"] != each["second"]), key=lead, reverse=True)
    shown = ordered if len(ordered) <= 2 * CLASSES else ordered[:CLASSES] + ordered[-CLASSES:]
    widest = max((abs(lead(each)) for each in shown), default=1.0)
    lines = "".join(bar(each, widest) for each in shown)
    left_out = (
        f"{len(shown)} of {len(win['classes'])} classes, the largest differences. "
        if len(shown) < len(win["classes"])
        else ""
    )
    note = (
        f"{left_out}Accuracy of {win['second']['method']} and {win['first']['method']} in %, and the number of images."
    )
    return f'{paragraph(note, "soft")}<div class="bars">{lines}</div>'


def bar(each: Results, widest: float) -> str:
    """Draw one class."""
    width = 50 * abs(lead(each)) / widest
    kind, place = ("first", "left:50%") if lead(each) > 0 else ("second", "right:50%")
    figures = f"{100 * each['second']:.0f} : {100 * each['first']:.0f} ({each['images']:,})"
    drawn = f'<i class="{kind}" style="{place};width:{width:.1f}%"></i>'
    return f'<span>{escape(each["label"])}</span><div class="axis">{drawn}</div><span class="figures">{figures}</span>'


def lead(each: Results) -> float:
    """Return by how much the first method is better at a class."""
    return float(each["first"] - each["second"])


def examples(found: list[Results], first: str, second: str) -> Table:
    """List queries with the rank of the best right answer under both methods, the largest ratios first."""
    ordered = sorted(found, key=lambda each: -ratio(each))[:QUERIES]
    rows = [
        (each["text"] or each["id"], SIDES[each["side"]], f"{each['first_rank']:,}", f"{each['second_rank']:,}")
        for each in ordered
    ]
    return Table("examples", ("query", "", f"rank by {first}", f"rank by {second}"), rows)


def ratio(each: Results) -> float:
    """Return how many times further down the worse method ranks the right answer."""
    low, high = sorted((each["first_rank"], each["second_rank"]))
    return float(high / low)
