"""Compile the kernels of asif/kernels/native when a wheel is built, once per instruction set.

Without a C++ compiler the wheel is pure Python, and asif computes with torch instead: as exact, slower.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("asif", "kernels", "native")
SOURCES = ("topk.cpp", "sparse.cpp")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra", "-Wno-uninitialized",
         "-Wno-maybe-uninitialized", "-fvisibility=hidden")  # fmt: skip
X86 = {
    "amx": ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
    "avx512vnni": ("-march=x86-64-v4", "-mavx512vnni"),
    "avx512": ("-march=x86-64-v4",),
    "avxvnni": ("-march=x86-64-v3", "-mavxvnni"),
    "avx2": ("-march=x86-64-v3",),
}
ARM = {"neon": ("-march=armv8.2-a+dotprod",)}
SETS = {"x86_64": X86, "AMD64": X86, "aarch64": ARM, "arm64": ARM}


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling calls this before it packs a wheel, an editable one too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / NATIVE
        problems = compile_all(folder)
        for problem in problems:
            self.app.display_warning(problem)
        if (folder / "portable.so").exists():
            platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag}"


def compile_all(folder: Path) -> list[str]:
    """Compile every instruction set of this machine's architecture; returns what went wrong."""
    for old in folder.glob("*.so"):
        old.unlink()
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
    if compiler is None:
        return ["no C++ compiler was found: asif will compute with torch. Install g++ or clang++, and reinstall"]
    variants = {"portable": (), **SETS.get(platform.machine(), {})}

    def build(name: str) -> str | None:
        sources = [str(folder / source) for source in (*SOURCES, *(("cpu.cpp",) if name == "portable" else ()))]
        target = str(folder / f"{name}.so")
        ran = subprocess.run(
            [compiler, *FLAGS, *variants[name], *sources, "-o", target], check=False, capture_output=True, text=True
        )
        if ran.returncode == 0:
            return None
        return f"the kernels for {name} did not compile and are left out: {ran.stderr.strip()[:2000]}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for problem in pool.map(build, variants) if problem]
