"""The kernels of every instruction set: all compile, and those that this machine lacks find the same in emulation.

`native/topk_check.cpp` compares searches with their definition. It runs on the instruction sets of this machine, on
vectors as wide as those of others with the plain definitions of their instructions, and on an emulated ARM processor.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT

from asif.kernels import native_binding
from asif.kernels.native_binding import INSTRUCTION_SETS, NATIVE_FOLDER

CHECK = ROOT / "tests" / "kernels" / "native" / "topk_check.cpp"
SOURCES = [str(NATIVE_FOLDER / name) for name in ("topk.cpp", "cpu.cpp")]
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
ARM_COMPILER, ARM = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
IS_X86 = platform.machine() in ("x86_64", "AMD64")
EMULATIONS = {
    "avx512vnni": ("-DEMULATED_LANES=16", "-DEMULATED_PAIRS"),
    "avx512": ("-DEMULATED_LANES=16",),
    "avxvnni": ("-DEMULATED_LANES=8", "-DEMULATED_PAIRS"),
    "neon": ("-DEMULATED_LANES=4", "-DEMULATED_FOURS"),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here"),
]
on_arm = pytest.mark.skipif(
    not (ARM_COMPILER and ARM), reason="g++-aarch64-linux-gnu and qemu-user are not installed: NEON is not tested here"
)


def flags_of(build: Any, name: str) -> tuple[str, ...]:
    return {"portable": (), **build.X86, **build.ARM}[name]


def run(*command: str | Path | None) -> str:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    return ran.stdout


def knows(compiler: str | None, flags: tuple[str, ...]) -> bool:
    command = [str(compiler), *flags, "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=b"", capture_output=True).returncode == 0


def compile_check(compiler: str | None, folder: Path, *flags: str) -> Path:
    """Compile the comparison with its kernels; returns the program."""
    run(compiler, "-std=c++17", "-O2", "-pthread", "-Wno-psabi", *flags, CHECK, *SOURCES, "-o", folder / "check")
    return folder / "check"


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_every_instruction_set_compiles_without_a_warning(build: Any, name: str, tmp_path: Path) -> None:
    compiler = ARM_COMPILER if name == "neon" and IS_X86 else COMPILER
    if compiler is None or not knows(compiler, flags_of(build, name)):
        pytest.skip(f"no compiler here knows {name}")
    flags = [flag for flag in build.FLAGS if flag not in ("-O3", "-shared")]
    for source in ("topk.cpp", "sparse.cpp"):
        made = (NATIVE_FOLDER / source, "-S", "-o", tmp_path / "assembly")
        assert run(compiler, *flags, "-O0", "-Werror", *flags_of(build, name), *made) == ""


@pytest.mark.parametrize("name", native_binding.list_instruction_sets())
def test_searches_are_right_on_this_machine(build: Any, name: str, tmp_path: Path) -> None:
    found = run(compile_check(COMPILER, tmp_path, *flags_of(build, name)))
    assert found.endswith(f"this processor has: {' '.join(native_binding.list_instruction_sets())}\n")


@pytest.mark.parametrize("name", EMULATIONS)
def test_searches_are_right_on_emulated_vectors(name: str, tmp_path: Path) -> None:
    assert "searches are right" in run(compile_check(COMPILER, tmp_path, *EMULATIONS[name]))


@on_arm
@pytest.mark.parametrize(
    ("processor", "name", "found"), [("max", "neon", "neon portable"), ("cortex-a53", "portable", "portable")]
)
def test_searches_are_right_on_an_emulated_arm_processor(
    build: Any, processor: str, name: str, found: str, tmp_path: Path
) -> None:
    program = compile_check(ARM_COMPILER, tmp_path, "-static", *flags_of(build, name))
    assert run(ARM, "-cpu", processor, program).endswith(f"this processor has: {found}\n")
