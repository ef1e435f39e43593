"""The door to the compiled kernels, what stands in where there are none, and how they are compiled."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.kernels_cases import assert_equal_bits, assert_same, best, case, exact_sparse, oracle, stored, unit
from support.late import Late

from asif.errors import MissingDependency, UsageError
from asif.kernels import native_binding, sparse_similarity, sparse_topk, topk_similarity
from asif.kernels.api import resolve_kernel
from asif.kernels.cpu import topk_similarity as search
from asif.vectors import SparseRows

if TYPE_CHECKING:
    import torch
else:
    torch = Late("torch")

NATIVE = native_binding.NATIVE_FOLDER
compiled = pytest.mark.skipif(not native_binding.list_instruction_sets(), reason="no kernels are compiled here")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every test find the libraries anew, on a machine without a GPU."""
    monkeypatch.delenv("ASIF_INSTRUCTIONS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    native_binding.load_native.cache_clear()
    yield
    native_binding.load_native.cache_clear()


def some_rows(seed: int) -> SparseRows:
    values = unit(30, 5, seed)
    return SparseRows(np.random.default_rng(seed).random((30, 40)).argsort(axis=1)[:, :5], values, 40)


@compiled
def test_the_best_instructions_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = native_binding.list_instruction_sets()
    assert [name for name in native_binding.INSTRUCTION_SETS if name in found] == list(found) and found[
        -1
    ] == "portable"
    assert Path(native_binding.load_native()._name) == NATIVE / f"{found[0]}.so"
    assert native_binding.load_native() is native_binding.load_native()
    assert resolve_kernel("auto") == "cpu"
    for name in found:
        assert Path(native_binding.load_native(name)._name).stem == name
    monkeypatch.setenv("ASIF_INSTRUCTIONS", "portable")
    native_binding.load_native.cache_clear()
    assert Path(native_binding.load_native()._name).stem == "portable"


@compiled
def test_unknown_instructions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the instruction set is 'mmx'"):
        native_binding.load_native("mmx")
    monkeypatch.setenv("ASIF_INSTRUCTIONS", "mmx")
    with pytest.raises(UsageError, match="the instruction set is 'mmx'") as caught:
        topk_similarity(unit(2, 4), [stored(3, 4)], 1, engine="cpu")
    assert caught.value.expected == f"one of {', '.join(native_binding.list_instruction_sets())}"
    assert "ASIF_INSTRUCTIONS" in caught.value.fix


@compiled
@pytest.mark.parametrize("engine", ["auto", "cpu"])
def test_unknown_instructions_are_not_passed_over(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIF_INSTRUCTIONS", "mmx")
    for call in (
        lambda: topk_similarity(unit(2, 4), [stored(3, 4)], 1, engine=engine),
        lambda: sparse_similarity(some_rows(1), some_rows(2), engine=engine),
    ):
        with pytest.raises(UsageError, match="the instruction set is 'mmx'"):
            call()


def absent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_binding, "NATIVE_FOLDER", folder)


def of_another_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_binding, "INTERFACE_VERSION", native_binding.INTERFACE_VERSION + 1)


def incomplete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "amx.so").touch()  # without the portable one, nobody can be asked what the processor has
    monkeypatch.setattr(native_binding, "NATIVE_FOLDER", folder)


def damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "portable.so").write_bytes(b"\x7fELF of another machine")
    monkeypatch.setattr(native_binding, "NATIVE_FOLDER", folder)


@pytest.mark.parametrize(
    "kernels",
    [
        absent,
        of_another_version,
        incomplete,
        damaged,
    ],
)
def test_without_compiled_kernels_others_do_it(kernels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels(tmp_path, monkeypatch)
    assert native_binding.list_instruction_sets() == () and not native_binding.is_available()
    assert resolve_kernel("auto") == "torch"
    queries, anchors = unit(7, 33), stored(90, 33)
    with pytest.raises(MissingDependency) as caught:
        topk_similarity(queries, [anchors], 5, engine="cpu")
    assert caught.value.fix == native_binding.REINSTALL_HINT
    assert "--engine torch" in caught.value.fix and "g++" in caught.value.fix
    assert_same(topk_similarity(queries, [anchors], 5), oracle(queries, anchors, 5))
    a, b = some_rows(1), some_rows(2)
    assert_equal_bits(sparse_similarity(a, b), exact_sparse(a, b))
    assert_same(sparse_topk(a, b, 7), best(exact_sparse(a, b), 7))
    monkeypatch.setattr("asif.kernels.sparse.SCIPY_SCORES", 70)  # two queries at a time
    assert_same(sparse_topk(a, b, 7), best(exact_sparse(a, b), 7))


@compiled
def test_the_portable_kernels_alone_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(NATIVE / "portable.so", tmp_path)
    monkeypatch.setattr(native_binding, "NATIVE_FOLDER", tmp_path)
    assert native_binding.list_instruction_sets() == ("portable",)
    assert_same(topk_similarity(unit(9, 33), [stored(90, 33)], 5), oracle(unit(9, 33), stored(90, 33), 5))


@compiled
def test_auto_asks_for_a_gpu_only_where_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_kernel("auto") == "cuda" == resolve_kernel("cuda")
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it had not been
    assert resolve_kernel("auto") == "cpu"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 6), ("1", 1), ("4", 4), ("6", 6), ("99", 6), ("0", 1), ("", 6), ("4,2", 6), ("-3", 6), ("all", 6)],
)
def test_threads_are_as_many_as_asked_for_and_there(
    asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda of: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert native_binding.count_threads() == expected


def test_threads_where_the_system_does_not_tell_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert native_binding.count_threads() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert native_binding.count_threads() == 1


# The build


@pytest.fixture
def sources(build: Any, tmp_path: Path) -> Path:
    """Return a copy of the sources, beside a library left from an earlier build, in a project of their own."""
    folder = tmp_path / "project" / build.NATIVE
    shutil.copytree(NATIVE, folder, ignore=shutil.ignore_patterns("*.so"))
    (folder / "old.so").touch()
    return folder


def compiler(folder: Path, refused: str) -> str:
    """Write a compiler that makes empty libraries, and none where an argument is `refused`."""
    file = folder / "compiler"
    refuse = f'if [ "$each" = "{refused}" ]; then echo "what is $each?" >&2; exit 1; fi'
    file.write_text(f'#!/bin/sh\nfor each in "$@"; do {refuse}; target=$each; done\necho "$@" > "$target"\n')
    file.chmod(0o755)
    return str(file)


def libraries(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.so")}


def test_what_does_not_compile_is_left_out_and_reported(
    build: Any, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("CXX", compiler(tmp_path, "-mamx-tile"))
    problems = build.compile_all(sources)
    assert problems == ["the kernels for amx did not compile and are left out: what is -mamx-tile?"]
    assert libraries(sources) == {"portable", *build.X86} - {"amx"}  # the old one is gone
    assert "cpu.cpp" in (sources / "portable.so").read_text()
    assert "cpu.cpp" not in (sources / "avx2.so").read_text() and "-march" in (sources / "avx2.so").read_text()
    monkeypatch.setenv("CXX", compiler(tmp_path, "-std=c++17"))
    assert len(build.compile_all(sources)) == 1 + len(build.X86)
    assert not libraries(sources)


@pytest.mark.parametrize(
    ("machine", "names"),
    [("aarch64", {"neon", "portable"}), ("arm64", {"neon", "portable"}), ("riscv64", {"portable"})],
)
def test_other_processors_get_kernels_of_their_own(
    machine: str, names: set[str], build: Any, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setenv("CXX", compiler(tmp_path, "nothing"))
    assert build.compile_all(sources) == []
    assert libraries(sources) == names


def test_every_compiled_set_has_its_place_among_the_others(build: Any) -> None:
    assert {"portable", *build.X86, *build.ARM} == set(native_binding.INSTRUCTION_SETS)


def test_without_a_compiler_the_fix_is_told(build: Any, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(sources))
    monkeypatch.delenv("CXX", raising=False)
    hook, data = build.CustomBuildHook(sources.parents[2]), dict[str, Any]()
    hook.initialize("standard", data)
    assert data == {}  # the wheel is pure Python
    assert len(hook.warnings) == 1
    assert "no C++ compiler was found" in hook.warnings[0] and "Install g++ or clang++" in hook.warnings[0]
    assert not libraries(sources)


def test_a_wheel_with_kernels_is_for_one_platform(
    build: Any, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build.sysconfig, "get_platform", lambda: "macosx-11.0-x86_64")
    monkeypatch.setenv("CXX", compiler(tmp_path, "-mamx-tile"))
    hook, data = build.CustomBuildHook(sources.parents[2]), dict[str, Any]()
    hook.target_name = "sdist"
    hook.initialize("standard", data)
    assert data == {} and libraries(sources) == {"old"}  # sources are packed as they are
    hook.target_name = "wheel"
    hook.initialize("standard", data)
    assert data == {"pure_python": False, "tag": "py3-none-macosx_11_0_x86_64"}
    assert len(hook.warnings) == 1 and "amx" in hook.warnings[0]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler here")
@pytest.mark.parametrize("emulated", [(), ("-DEMULATED_LANES=16", "-DEMULATED_PAIRS")])  # and those of avx512vnni
def test_compiled_anew_without_optimisation_the_bits_are_the_same(
    emulated: tuple[str, ...], build: Any, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FLAGS", ["-O0" if flag == "-O3" else flag for flag in build.FLAGS])
    sets = build.SETS.get(platform.machine(), {})
    name = "neon" if "neon" in sets else "avx2"
    monkeypatch.setitem(build.SETS, platform.machine(), {name: (*sets.get(name, ()), *emulated)})
    assert build.compile_all(sources) == []
    monkeypatch.setattr(native_binding, "NATIVE_FOLDER", sources)
    assert native_binding.list_instruction_sets()[-1] == "portable"
    for name in native_binding.list_instruction_sets():
        monkeypatch.setenv("ASIF_INSTRUCTIONS", name)
        native_binding.load_native.cache_clear()
        assert Path(native_binding.load_native()._name) == sources / f"{name}.so"
        for each in map(case, ("misleading, few queries", "rounded anchors lose", "tiny float16")):
            assert_same(search(each.queries, each.blocks, each.k), each.expected)
        a, b = some_rows(1), some_rows(2)
        assert_equal_bits(sparse_similarity(a, b), exact_sparse(a, b))
