"""The verdict of a comparison against sums done by hand: who is ahead, by how much, from where on, at what cost."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from statistics import stdev

import pytest
from support.comparison_results import results as nine_methods

from asif.evaluate.comparison.method_run import DatasetResult, DeletionCost, TrainingSteps, TuningSpent
from asif.evaluate.comparison.result import (
    ComparedDataset,
    ComparedMethod,
    Comparison,
    DatasetDescription,
    Machine,
    MethodRun,
    TuningBudget,
    Wins,
)
from asif.evaluate.comparison.statistics import (
    HeadToHead,
    Standing,
    collect_cost,
    collect_standing,
    compute_sampling_error,
    match_camps,
)
from asif.evaluate.comparison.verdict import Verdict, judge_comparison
from asif.evaluate.comparison.wins import CorrectedMethod, WinCounts
from asif.evaluate.provenance import AnchorOrigin, AnchorsUsed, DataUsed, EncoderUsed

DATA = DataUsed("d.parquet", "parquet", 1, 1, 10, {}, "0", "1")
DATASET = ComparedDataset("d", "zeroshot_retrieval", "r", DatasetDescription({"images": 10}, (), DATA))
Figures = dict[tuple[str, int], list[float | None]]


def compared(figures: Figures, *, anchors: int = 10**6, wins: list[Wins] | None = None) -> Comparison:
    """Make a comparison on one retrieval set of figures by method and number of pairs, one for each seed.

    Methods whose names begin with t are trained: they take 100 seconds and 300 MiB, the others 2 seconds and 200 MiB.
    """
    names = list(dict.fromkeys(name for name, _ in figures))
    runs = [
        MethodRun(
            method=name,
            pairs=pairs,
            seed=seed,
            task="zeroshot_retrieval",
            setting=name,
            parameters={},
            tuning=TuningSpent(3, 5.0, complete=True, questions=40),
            fit_seconds=100.0 if name[0] == "t" else 2.0,
            peak_mib=300.0 if name[0] == "t" else 200.0,
            trained_parameters=None,
            deletion=DeletionCost(100.0, "trained again") if name[0] == "t" else None,
            results=(DatasetResult("d", "none", {"r": figure}),),
        )
        for (name, pairs), found in figures.items()
        for seed, figure in enumerate(found)
    ]
    nobody = EncoderUsed("e", "f")
    return Comparison(
        created="2025-01-31T12:00:00+00:00",
        asif="0.1",
        versions={},
        machine=Machine("a processor", 2, "cpu"),
        origin=AnchorOrigin(AnchorsUsed("some", "1", "0", anchors), nobody, nobody),
        budget=TuningBudget(60.0, "the same for all"),
        seeds=(0, 1, 2),
        counts=tuple(sorted({pairs for _, pairs in figures})),
        datasets=(DATASET,),
        methods=tuple(ComparedMethod(name, "trained" if name[0] == "t" else "training-free", "") for name in names),
        runs=tuple(runs),
        wins=tuple(wins or ()),
        expected=None,
        clip_benchmark=(),
    )


def win(pairs: int, counts: tuple[int, int, int, int], names: tuple[str, str] = ("free", "train")) -> Wins:
    first, second = (CorrectedMethod(name, "none") for name in names)
    return Wins("d", pairs, 0, first, second, WinCounts(*counts))


def sentence(found: Verdict) -> str:
    return found.lines[-1]


def test_training_that_is_behind_buys_nothing_and_costs_what_was_measured() -> None:
    found = judge_comparison(compared({("free", 50): [0.20, 0.22], ("train", 50): [0.10, 0.11]}))
    assert sentence(found) == (
        "d (search): no training that was tested (train 3 settings) is better at up to 50 pairs: "
        "free 21.0, best trained train 10.5; "
        "it costs 50 times the seconds to fit, 15 times with tuning, and every deletion is a retraining"
    )
    assert found.datasets[0].pays_at == () and found.datasets[0].pays_from is None
    text = "\n".join(found.lines)
    assert "fit at 50 pairs: train 100 s, free 2 s (50 times)" in text
    assert "tuning and fit: train 105 s, free 7 s (15 times)" in text
    assert "settings tried: train 3 on 40 held-out queries, free 3 on 40 held-out queries\n" in text
    assert "peak memory: train 300 MiB, free 200 MiB (1.5 times)" in text
    assert "one pair deleted: train 100 s, free - s; train: trained again" in text


def test_where_training_pays_it_says_from_where_on_and_by_how_much() -> None:
    found = judge_comparison(
        compared(
            {
                ("free", 50): [0.20, 0.22],
                ("train", 50): [0.10, 0.11],
                ("free", 300): [0.30, 0.31],
                ("train", 300): [0.40, 0.42],
                ("free", 900): [0.40, 0.40],
                ("train", 900): [0.45, 0.46],
            }
        )
    )
    one = found.datasets[0]
    assert one.pays_at == (300, 900) and one.pays_from == 300
    last = one.matches[-1]
    assert last.difference == pytest.approx(0.055) and last.error == pytest.approx(stdev([0.05, 0.06]))
    assert sentence(found).startswith(
        "d (search): training pays from 300 pairs on; at 900: free 40.0, best trained train 45.5, +5.5 ± 1.4 points; "
    )


def test_a_lead_at_the_last_number_is_not_carried_beyond_it() -> None:
    figures: Figures = {("free", 50): [0.2, 0.2], ("train", 50): [0.1, 0.1], ("free", 90): [0.3, 0.3]}
    found = judge_comparison(compared({**figures, ("train", 90): [0.4, 0.4]}))
    assert "training pays at 90 pairs, the most tried; at 90: free 30.0, best trained train 40.0, +10.0" in sentence(
        found
    )


def test_a_lead_in_the_middle_is_named_as_such() -> None:
    figures: Figures = {("free", 50): [0.1, 0.1], ("train", 50): [0.2, 0.2], ("free", 90): [0.3, 0.3]}
    found = judge_comparison(compared({**figures, ("train", 90): [0.2, 0.2]}))
    assert "training pays at 50 pairs only; at 90: free 30.0, best trained train 20.0, -10.0 ± 0.0 points" in sentence(
        found
    )


def test_a_tie_and_a_lead_within_the_spread_are_not_paid() -> None:
    tie = judge_comparison(compared({("free", 50): [0.2, 0.3], ("train", 50): [0.2, 0.3]}))
    assert tie.datasets[0].matches[0].ahead is None and "is better at up to 50 pairs" in sentence(tie)
    assert "within the error" not in sentence(tie)
    near = judge_comparison(compared({("free", 50): [0.20, 0.20], ("train", 50): [0.20, 0.24]}))  # +2.0, error 2.8
    assert near.datasets[0].matches[0].ahead is None
    assert (
        "no training that was tested (train 3 settings) is better at up to 50 pairs: "
        "free 20.0, best trained train 22.0, +2.0 ± 5.7 points, within" in (sentence(near))
    )


def test_one_seed_without_counted_wins_says_that_the_error_is_not_known() -> None:
    found = judge_comparison(compared({("free", 50): [0.2], ("train", 50): [0.3]}))
    assert found.datasets[0].pays_at == ()
    assert "trained is ahead at 50 pairs, the error is not known: free 20.0, best trained train 30.0" in sentence(found)
    behind = judge_comparison(compared({("free", 50): [0.3], ("train", 50): [0.2]}))
    assert "is better at up to 50 pairs: free 30.0" in sentence(behind)
    assert "-10.0 points, error not known" in behind.lines[1]


def test_mcnemar_decides_where_seeds_share_the_pairs() -> None:
    figures: Figures = {("free", 50): [0.20, 0.20], ("train", 50): [0.25, 0.25]}
    unknown = match_camps(compared(figures, anchors=50), DATASET, 50)
    assert unknown.error is None and unknown.ahead is None  # that seeds agree says nothing of other tests
    for only, ahead in ((16, "trained"), (1600, None)):
        counted = compared(figures, anchors=50, wins=[win(50, (0, only // 2, only // 2, 1000 - only))])
        some = compared(figures, anchors=50, wins=[win(50, (10, 8, 8, 974))]) if only == 16 else counted
        found = match_camps(some, DATASET, 50)
        total = some.wins[0].counts.total
        assert found.error == pytest.approx(sqrt(only) / total)
        assert found.ahead == ahead


def test_wins_of_others_are_not_taken_for_these() -> None:
    some = compared(
        {("free", 50): [0.2]}, wins=[win(50, (1, 4, 5, 0)), win(90, (0, 1, 0, 0)), win(50, (0, 4, 0, 0), ("a", "b"))]
    )
    assert compute_sampling_error(some, "d", 50, {"train", "free"}) == pytest.approx(3 / 10)
    assert compute_sampling_error(some, "d", 60, {"train", "free"}) is None
    assert compute_sampling_error(compared({}, wins=[win(50, (0, 0, 0, 0))]), "d", 50, {"train", "free"}) is None


def test_differences_pair_seeds_and_add_both_errors_as_squares() -> None:
    both = HeadToHead(50, Standing("free", {0: 0.1, 1: 0.2, 2: 0.3}), Standing("train", {1: 0.3, 2: 0.5}), 0.03, False)
    assert both.differences == pytest.approx([0.1, 0.2])
    assert both.error == pytest.approx(sqrt(stdev([0.1, 0.2]) ** 2 + 0.03**2))
    assert HeadToHead(50, None, both.trained, None, False).difference is None


def test_one_side_alone_is_named() -> None:
    assert sentence(judge_comparison(compared({("free", 50): [0.2], ("best", 50): [0.3]}))) == (
        "d (search): nothing trained to compare with; at 50 pairs best 30.0"
    )
    assert sentence(judge_comparison(compared({("train", 50): [0.2]}))) == (
        "d (search): nothing training-free to compare with; at 50 pairs train 20.0"
    )


def test_nulls_count_for_nothing() -> None:
    found = judge_comparison(
        compared({("free", 50): [0.2, None], ("train", 50): [None, 0.3], ("other", 50): [None, None]})
    )
    assert "no seed has both sides at 50 pairs: free 20.0, best trained train 30.0" in sentence(found)
    nothing = judge_comparison(compared({("free", 50): [None], ("train", 50): [None]}))
    assert nothing.lines[-1] == "d (search): no figures" and nothing.datasets[0].matches == ()


def test_the_corrected_result_is_judged_and_the_other_one_said() -> None:
    some = compared({("free", 50): [0.30], ("raw", 50): [0.35], ("train", 50): [0.31]})
    runs = [
        run if corrected is None else replace(run, results=(*run.results, corrected_result(corrected)))
        for run, corrected in zip(some.runs, (0.50, None, 0.40), strict=True)
    ]
    some = replace(some, runs=tuple(runs))
    assert runs[1].result_on("d", corrected=True) == runs[1].result_on("d", corrected=False) == runs[1].results[0]
    assert runs[0].result_on("d", corrected=True) == runs[0].results[1]
    assert runs[0].result_on("d", corrected=False) == runs[0].results[0] and runs[0].result_on("other") is None
    assert collect_standing(some, DATASET, "free", 50) == Standing("free", {0: 0.50})
    lines = judge_comparison(some).lines
    assert "  without correction at 50 pairs: training-free raw 35.0, trained train 31.0" in lines
    assert lines[-1].startswith(
        "d (search): no training that was tested (train 3 settings) is better at up to 50 pairs: "
        "free 50.0, best trained train 40.0"
    )


def corrected_result(figure: float) -> DatasetResult:
    return DatasetResult("d", "nnn k=8 alpha=0.5", {"r": figure})


def test_of_equal_methods_the_first_stands_for_its_side() -> None:
    found = match_camps(compared({("b", 50): [0.2], ("a", 50): [0.2]}), DATASET, 50)
    assert found.free is not None and found.free.method == "b" and found.trained is None


def test_a_whole_comparison_ends_with_one_sentence_for_each_data_set() -> None:
    found = judge_comparison(Comparison.from_json(nine_methods()))
    assert [line.split(":")[0] for line in found.lines[-2:]] == [
        "flickr8k-test (search)",
        "caltech101 (zero-shot classes)",
    ]
    assert all("is better at up to 6,000 pairs: auto" in line for line in found.lines[-2:])
    assert "  3 of 6,085 test images are anchors too" in found.lines


def test_costs_are_those_of_the_runs_for_the_data_set() -> None:
    """A captions set and a labels set in one comparison: their runs are tuned apart, and cost apart."""
    searched = compared({("free", 50): [0.2], ("train", 50): [0.1]})
    other = replace(DATASET, name="c", task="zeroshot_classification")
    classified = [
        replace(run, task="zeroshot_classification", fit_seconds=7.0, results=(DatasetResult("c", "none", {"r": 0.5}),))
        for run in searched.runs
    ]
    both = replace(searched, datasets=(DATASET, other), runs=(*searched.runs, *classified))
    assert [collect_cost(both, each, "free", 50).fit_seconds for each in both.datasets] == [2.0, 7.0]
    assert [collect_cost(both, each, "free", 50).all_seconds for each in both.datasets] == [7.0, 12.0]
    assert [collect_cost(both, each, "train", 50).all_seconds for each in both.datasets] == [105.0, 12.0]


def test_the_verdict_says_what_was_tested_and_no_more() -> None:
    some = compared({("free", 50): [0.3, 0.3], ("train", 50): [0.2, 0.2], ("two", 50): [0.1, 0.1]})
    trained = TrainingSteps(100, 100, 800)
    runs = [
        replace(run, training=trained, tuning=TuningSpent(1, 9.0, False, 20, 0.5)) if run.method == "train" else run
        for run in some.runs
    ]
    methods = tuple(replace(each, kind="trained") if each.name == "two" else each for each in some.methods)
    found = judge_comparison(replace(some, runs=tuple(runs), methods=methods))
    assert "no training that was tested (train 1 setting of 12 % of the steps, two 3 settings) is better" in sentence(
        found
    )
    assert (
        "  settings tried: train 1 on 20 held-out queries, 0.5 s over the time, free 3 on 40 held-out queries"
        in found.lines
    )
