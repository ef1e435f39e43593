"""The settings that tuning tries."""

from __future__ import annotations

from asif.aligners import make_aligner
from asif.aligners.relative import compute_default_k
from asif.tuning.criteria import Task
from asif.tuning.grid import MAX_PAIRS_WITH_WORDS, AlignerSetting, build_grid, default_setting


def test_all_are_aligners_and_take_turns() -> None:
    every = build_grid(100)
    assert len(set(every)) == len(every)
    assert {setting.family for setting in every[:4]} == {"asif", "procrustes", "ridge", "cca"}
    for setting in every:
        assert make_aligner(setting.name(1000)).name.partition("(")[0] == setting.family
    assert not any("size=128" in setting.parameters for setting in every)


def test_k_follows_the_number_of_anchors() -> None:
    setting = AlignerSetting("asif", (), 2.0)
    assert make_aligner(setting.name(6000)).parameters["k"] == 2 * compute_default_k(6000)


def test_words_are_read_where_queries_have_them() -> None:
    names = {words: [setting.name(1000) for setting in build_grid(100, words=words)] for words in (True, False)}
    assert len(names[True]) == len(names[False])
    assert [name.replace("words=0", "words") for name in names[False]] == names[True]
    assert sum("words" in name for name in names[True]) == 2 == sum("words=0" in name for name in names[False])


def test_defaults_depend_on_task_and_anchors() -> None:
    def name(task: Task, pairs: int, texts_repeat: bool, words: bool = True) -> str:
        setting, hubness = default_setting(task, pairs, texts_repeat=texts_repeat, words=words)
        make_aligner(setting.name(pairs))
        return f"{setting.name(pairs)}, {hubness.method}"

    many = MAX_PAIRS_WITH_WORDS + 1
    assert [name("search", pairs, False) for pairs in (50, many)] == ["cca(words), nnn", "cca, nnn"]
    assert [name("classify", pairs, False) for pairs in (50, many)] == ["cca(words)+asif, none", "asif, none"]
    assert [name("classify", pairs, True) for pairs in (50, many)] == ["cca(words), none", "cca, none"]
    assert name("classify", 50, False, False) == "cca(words=0)+asif, none"
    assert name("search", many, False, False) == "cca, nnn"
    setting, hubness = default_setting("search", 50, texts_repeat=False, images_repeat=True)
    assert (setting.name(50), hubness.method) == ("cca(words)", "lse")
