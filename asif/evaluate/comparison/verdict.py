"""Is training a projector worth it on these pairs? What a comparison says, in plain words."""

from __future__ import annotations

from dataclasses import dataclass

from asif.evaluate.comparison.format import amount, difference, named, ranged, signed, times
from asif.evaluate.comparison.statistics import Cost, Results, Rivals, cost, rivals

TASKS = {"zeroshot_retrieval": "search", "zeroshot_classification": "zero-shot classes"}


@dataclass(frozen=True)
class DatasetVerdict:
    """Hold what was found on one data set: `rivals` by number of pairs, the plain lines, and one sentence.

    `pays_at` are the numbers of pairs at which a trained method is ahead by more than two errors, `pays_from` the one
    from which on it always is, None where there is none.
    """

    dataset: str
    rivals: tuple[Rivals, ...]
    pays_at: tuple[int, ...]
    pays_from: int | None
    lines: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Hold what was found on every data set."""

    datasets: tuple[DatasetVerdict, ...]

    @property
    def lines(self) -> list[str]:
        """Return plain text: each data set's lines, then one sentence for each data set."""
        each = [line for found in self.datasets for line in (*found.lines, "")]
        return [*each, *(found.sentence for found in self.datasets)]


def verdict(results: Results) -> Verdict:
    """Judge a comparison: who is ahead at which number of pairs, by how much, and what it costs.

    Methods are compared corrected for hubness, where they have such a result. A difference counts where it is more than
    two errors: the standard deviation of the seeds' differences and, where wins were counted, McNemar's standard error
    over the queries of the test, added as squares.
    """
    return Verdict(tuple(on_dataset(results, dataset) for dataset in results["datasets"]))


def on_dataset(results: Results, dataset: Results) -> DatasetVerdict:
    """Judge one data set."""
    every = (rivals(results, dataset, pairs) for pairs in sorted(results["counts"]))
    found = [each for each in every if each.free or each.trained]
    pays_at = tuple(each.pairs for each in found if each.ahead == "trained")
    first = start_of_run([each.ahead == "trained" for each in found])
    name = f"{dataset['name']} ({TASKS[dataset['task']]})"
    if not found:
        return DatasetVerdict(dataset["name"], (), (), None, (f"{name}: no figures",), f"{name}: no figures")
    pays_from = None if first is None else found[first].pairs
    last = found[-1]
    lines = [
        f"{name}, {dataset['primary']} in %, corrected for hubness where a method has such a result:",
        *(f"  {at(each)}" for each in found),
        *uncorrected(results, dataset, last.pairs),
    ]
    if any(each.differences for each in found):
        lines.append(f"  training pays: {where(pays_at, pays_from, last.pairs)}")
    costs = [cost(results, each.method, last.pairs) if each else None for each in (last.trained, last.free)]
    lines += [f"  {line}" for line in cost_lines(last, *costs)]
    if shared := dataset["counts"].get("images_among_anchors"):
        lines.append(f"  {shared:,} of {dataset['counts']['images']:,} test images are anchors too")
    sentence = f"{name}: {judgement(found, pays_at, pays_from)}{price(last, *costs)}"
    return DatasetVerdict(dataset["name"], tuple(found), pays_at, pays_from, tuple(lines), sentence)


def at(found: Rivals) -> str:
    """Say who came to what from one number of pairs."""
    sides = [("training-free", found.free), ("trained", found.trained)]
    said = ", ".join(f"{side} {ranged(each)}" for side, each in sides if each is not None)
    if found.difference is None:
        return f"{found.pairs:,} pairs: {said}"
    if found.error is None:
        return f"{found.pairs:,} pairs: {said}; {signed(found.difference)} points, error not known"
    ahead = f"{found.ahead} is ahead" if found.ahead else "no difference beyond the error"
    return f"{found.pairs:,} pairs: {said}; {difference(found)} points: {ahead}"


def uncorrected(results: Results, dataset: Results, pairs: int) -> list[str]:
    """Say who is best where nobody is corrected, for those who rank so."""
    plain = rivals(results, dataset, pairs, corrected=False)
    if plain.free is None or plain.trained is None:
        return []
    return [
        f"  without correction at {pairs:,} pairs: training-free {named(plain.free)}, trained {named(plain.trained)}"
    ]


def where(pays_at: tuple[int, ...], pays_from: int | None, most: int) -> str:
    """Say at which numbers of pairs training pays, `most` being the largest that was tried.

    >>> where((), None, 3000), where((300, 3000), 300, 3000), where((3000,), 3000, 3000)
    ('at none of these numbers', 'from 300 pairs on', 'at 3,000 pairs, the most tried')
    >>> where((50, 1000), None, 3000), where((50, 1000, 3000), 1000, 3000)
    ('at 50, 1,000 pairs only', 'at 50 pairs, and from 1,000 pairs on')
    """
    if not pays_at:
        return "at none of these numbers"
    before = ", ".join(f"{pairs:,}" for pairs in pays_at if pays_from is None or pairs < pays_from)
    if pays_from is None:
        return f"at {before} pairs only"
    after = f"at {most:,} pairs, the most tried" if pays_from == most else f"from {pays_from:,} pairs on"
    return f"at {before} pairs, and {after}" if before else after


def judgement(found: list[Rivals], pays_at: tuple[int, ...], pays_from: int | None) -> str:
    """Say in one clause whether training is worth it."""
    last = found[-1]
    if last.free is None or last.trained is None:
        only, other = (last.free, "trained") if last.free else (last.trained, "training-free")
        assert only is not None
        return f"nothing {other} to compare with; at {last.pairs:,} pairs {named(only)}"
    both = f"{named(last.free)}, best trained {named(last.trained)}"
    if last.difference is None:
        return f"no seed has both sides at {last.pairs:,} pairs: {both}"
    if pays_at:
        gain = f"{signed(last.difference)} points" if last.error is None else f"{difference(last)} points"
        return f"training pays {where(pays_at, pays_from, last.pairs)}; at {last.pairs:,}: {both}, {gain}"
    if last.difference <= 0 or last.error is not None:
        within = f", {difference(last)} points, within the error" if last.difference > 0 else ""
        return f"training buys nothing here up to {last.pairs:,} pairs: {both}{within}"
    return f"trained is ahead at {last.pairs:,} pairs, the error is not known: {both}"


def cost_lines(last: Rivals, trained: Cost | None, free: Cost | None) -> list[str]:
    """Say what either side costs at the largest number of pairs."""
    both = [(each.method, costs) for each, costs in ((last.trained, trained), (last.free, free)) if each and costs]

    def row(what: str, key: str, unit: str) -> str:
        values = [getattr(costs, key) for _, costs in both]
        said = ", ".join(f"{name} {amount(value)} {unit}" for (name, _), value in zip(both, values, strict=True))
        ratio = times(*values) if len(values) == 2 else None
        return f"{what}: {said}" + (f" ({ratio} times)" if ratio else "")

    deletion = row("one pair deleted", "deletion_seconds", "s")
    return [
        row(f"fit at {last.pairs:,} pairs", "fit_seconds", "s"),
        row("tuning before", "tuning_seconds", "s"),
        row("peak memory", "peak_mib", "MiB"),
        "; ".join([deletion, *(f"{name}: {costs.deletion}" for name, costs in both if costs.deletion)]),
    ]


def price(last: Rivals, trained: Cost | None, free: Cost | None) -> str:
    """Say what training costs beside not training, as the end of a sentence."""
    if trained is None or free is None:
        return ""
    seconds = times(trained.fit_seconds, free.fit_seconds)
    costs = f"; it costs {seconds} times the seconds, and" if seconds else ";"
    return f"{costs} every deletion is a retraining"


def start_of_run(flags: list[bool]) -> int | None:
    """Return where the run of True that reaches the end begins.

    >>> start_of_run([True, False, True, True]), start_of_run([True, False])
    (2, None)
    """
    start = len(flags)
    while start and flags[start - 1]:
        start -= 1
    return start if start < len(flags) else None
