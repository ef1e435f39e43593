"""Run a comparison: every method on the same samples of the same anchors, evaluated on the same data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np

from asif.aligners import Hubness
from asif.aligners.protocol import uses_texts
from asif.engine import Engine
from asif.evaluate.comparison.anchor_tokens import AnchorTokens
from asif.evaluate.comparison.assemble import assemble_comparison
from asif.evaluate.comparison.datasets import CachedDataset, LabelSet
from asif.evaluate.comparison.journal import RunJournal, RunKey
from asif.evaluate.comparison.method_run import DatasetResult, MethodRun
from asif.evaluate.comparison.methods import (
    TRAINED_SETTINGS,
    WORD_METHODS,
    Contender,
    Sample,
    fit_contender,
    select_captions,
)
from asif.evaluate.comparison.plan import BENCHMARKS, ComparisonPlan
from asif.evaluate.comparison.result import Comparison
from asif.tuning import AnchorSubset
from asif.vectors import Embeddings, Int64
from asif.version import VERSION

_RULES = 2  # of tuning and training; runs that followed others are not taken from a journal


def run_comparison(
    engine: Engine,
    texts: tuple[Embeddings, Int64] | None,
    datasets: Sequence[CachedDataset],
    plan: ComparisonPlan,
    journal_path: Path,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    tokens: AnchorTokens | None = None,
) -> Comparison:
    """Compare methods on an anchor set.

    `texts` are single captions of the anchors and the row of each, None if the stored ones are single. Finished runs
    are written to the journal, and taken from there when the same comparison is run again. Trained methods read the
    captions' words if a method of WORD_METHODS competes and the texts of all data sets are known. `tokens` are those of
    the anchors, with a lookup that also finds those of the data sets, for a method of OPTIONAL_METHODS.
    """
    anchors = engine.anchors
    tasks = list(dict.fromkeys(dataset.task for dataset in datasets))
    reads_words = any(method in WORD_METHODS for method in plan.methods) and all(map(_has_texts, datasets))
    journal = RunJournal(journal_path, _identify(engine, datasets, plan, reads_words, tokens))
    runs: list[MethodRun] = []
    drawn: tuple[tuple[int, int], Sample] | None = None  # the latest one: its trainings serve all tasks
    steps = list(product(plan.steps(), tasks))
    for at, ((pairs, seed, method), task) in enumerate(steps):
        key: RunKey = (method, pairs, seed, BENCHMARKS[task])
        progress(f"{method}, {pairs:,} pairs, seed {seed}", at, len(steps))
        run = journal.get(key)
        if run is None:
            if drawn is None or drawn[0] != (pairs, seed):
                rows = draw_pair_sample(anchors.count, pairs, seed)
                subset = AnchorSubset.of(anchors, rows)
                single = select_captions(texts, rows)
                own = None if tokens is None else tokens.select_rows(rows)
                drawn = (pairs, seed), Sample.of(subset, single, seed, reads_words=reads_words, tokens=own)
            sample = drawn[1]

            def on_setting(setting: str, at: int = at, pairs: int = pairs, seed: int = seed) -> None:
                progress(f"{setting}, {pairs:,} pairs, seed {seed}", at, len(steps))

            fixed = plan.fixed_setting(method)
            contender = fit_contender(method, sample, task, seed, plan.seconds, fixed, on_setting, tasks)
            run = _evaluate_contender(key, contender, [each for each in datasets if each.task == task], sample)
            journal.append(run)
        runs.append(run)
    progress("done", len(steps), len(steps))
    return assemble_comparison(engine, datasets, plan, runs)


def _has_texts(dataset: CachedDataset) -> bool:
    """Tell whether the texts of a data set are known, not only their vectors."""
    return isinstance(dataset, LabelSet) or dataset.texts.texts is not None


def _identify(
    engine: Engine,
    datasets: Sequence[CachedDataset],
    plan: ComparisonPlan,
    reads_words: bool,
    tokens: AnchorTokens | None,
) -> list[object]:
    """Return what the runs of a comparison depend on, as JSON."""
    data = [asdict(dataset.description.data) for dataset in datasets]
    fixed = None if plan.recipe is None else plan.recipe.aligner
    more = [] if tokens is None else [tokens.tokens.header["source"]]
    depends_on = [engine.anchors.digest, data, plan.seconds, fixed]
    return [depends_on, VERSION, TRAINED_SETTINGS, _RULES, reads_words, *more]


def draw_pair_sample(count: int, size: int, seed: int) -> Int64:
    """Draw `size` of `count` rows, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def _evaluate_contender(
    key: RunKey, contender: Contender, datasets: Sequence[CachedDataset], sample: Sample
) -> MethodRun:
    """Evaluate a fitted method on data sets, without and with its hubness correction."""
    results = []
    for dataset in datasets:
        for hubness in dict.fromkeys((Hubness("none"), contender.hubness)):
            scores = dataset.evaluate(contender.fitted, hubness, sample.anchors)
            results.append(DatasetResult(dataset.name, str(hubness), scores.metrics, scores.ranks))
    return MethodRun(
        *key,
        setting=contender.setting,
        parameters=contender.fitted.parameters,
        tuning=contender.tuning,
        fit_seconds=contender.fit_seconds,
        peak_mib=contender.peak_mib,
        trained_parameters=contender.trained_parameters,
        deletion=contender.deletion,
        results=tuple(results),
        training=contender.training,
        reads_words=uses_texts(contender.fitted),
    )
