"""Examine this installation: versions, name clash, device, backends, kernels, storage, embedded weights."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from asif.encoders import DEFAULT_ENCODERS
from asif.encoders.backends.choose import choose_backend
from asif.encoders.embedded import ALL_WEIGHTS, EMBEDDED_WEIGHTS
from asif.errors import AsifError, MissingDependency, UsageError
from asif.kernels import native_binding
from asif.version import VERSION

CHECKED_LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "faiss-cpu",
    "timm",
    "sentence-transformers",
    "pyarrow",
    "pillow",
    "triton",
    "onnxruntime",
    "openvino",
    "onnx",
    "soundfile",
    "soxr",
)
_OPTIONAL_LIBRARIES = {
    "triton": "only needed on GPUs",
    "onnxruntime": "optional: pip install 'asif-engine[onnx]'",
    "openvino": "optional: pip install 'asif-engine[openvino]'",
    "onnx": "optional: comes with the extras onnx and openvino",
    "soundfile": "optional: pip install 'asif-engine[audio]'",
    "soxr": "optional: comes with the extra audio",
}


@dataclass(frozen=True)
class Diagnosis:
    """One line of the report; `fix` says what to do if something is wrong."""

    what: str
    found: str
    fix: str | None = None


def examine_installation(home: Path) -> list[Diagnosis]:
    """Run all checks on this installation, for a store at `home`."""
    return [
        Diagnosis("asif", f"{VERSION} in {Path(__file__).resolve().parent}"),
        check_name_clash(),
        Diagnosis("python", f"{platform.python_version()} on {platform.platform()}"),
        *(check_library(library) for library in CHECKED_LIBRARIES),
        _check_device(),
        *(check_backend_choice(spec, home / "cache") for spec in DEFAULT_ENCODERS.values()),
        _check_kernels(),
        *check_storage(home),
        *(check_embedded_weights(name) for name in ALL_WEIGHTS),
    ]


def check_library(library: str) -> Diagnosis:
    """Find the version of a library."""
    try:
        return Diagnosis(library, metadata.version(library))
    except metadata.PackageNotFoundError:
        optional = _OPTIONAL_LIBRARIES.get(library)
        if optional is not None:
            return Diagnosis(library, f"not installed ({optional})")
        return Diagnosis(library, "not installed", f"pip install {library}")


def check_name_clash() -> Diagnosis:
    """Detect the other distribution that also installs a package `asif`."""
    try:
        other = metadata.version("asif")
    except metadata.PackageNotFoundError:
        return Diagnosis("name clash", "none")
    return Diagnosis(
        "name clash",
        f"the distribution asif {other} (an IRC framework) installs a package of the same name",
        "pip uninstall asif && pip install --force-reinstall --no-deps asif-engine",
    )


def _check_device() -> Diagnosis:
    """Find the device that encoders run on; imports torch."""
    try:
        import torch
    except ImportError as error:
        return Diagnosis("device", f"torch cannot be imported ({error})", "pip install torch")
    if torch.cuda.is_available():
        return Diagnosis("device", f"cuda: {torch.cuda.get_device_name()}")
    return Diagnosis("device", f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")


def check_backend_choice(spec: str, cache: Path) -> Diagnosis:
    """Find what runs an encoder where no backend is named, and why."""
    what = f"backend of {spec.partition(':')[2]}"
    try:
        choice = choose_backend("auto", "auto", spec=spec, cache=cache)
    except AsifError as error:
        return Diagnosis(what, error.came, f"{error.fix}; or unset ASIF_BACKEND")
    return Diagnosis(what, f"{choice.backend}: {choice.reason}")


def _check_kernels() -> Diagnosis:
    """Find the compiled kernels, and which of them are used."""
    try:
        chosen = native_binding.choose_instruction_set()
    except MissingDependency as error:
        return Diagnosis("kernels", "not compiled: similarities are computed by torch, exactly but slowly", error.fix)
    except UsageError as error:
        return Diagnosis("kernels", error.came, error.fix)
    compiled = ", ".join(native_binding.list_instruction_sets())
    return Diagnosis("kernels", f"{chosen}, {native_binding.count_threads()} threads (compiled: {compiled})")


def check_storage(home: Path) -> list[Diagnosis]:
    """Find the store, its caches and the free space on their disk."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    fix = "free some space, or set ASIF_HOME to another disk" if free < 2**30 else None
    return [
        Diagnosis("anchor sets", str(home / "anchors")),
        Diagnosis("caches", str(home / "cache")),
        _check_exports(home / "cache" / "exports"),
        Diagnosis("free disk", f"{free / 1e9:.1f} GB", fix),
    ]


def check_embedded_weights(name: str) -> Diagnosis:
    """Find the weights of an embedded encoder."""
    weights = ALL_WEIGHTS[name]
    path = weights.path()
    if path is None and name not in EMBEDDED_WEIGHTS:
        return Diagnosis(f"embedded:{name}", f"not installed (optional: {weights.install})")
    if path is None:
        return Diagnosis(f"embedded:{name}", "not installed", weights.install)
    return Diagnosis(f"embedded:{name}", str(path))


def _check_exports(folder: Path) -> Diagnosis:
    """Find the exported models and their size."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    models = len(list(folder.glob("[!.]*")))
    found = f"{models} of {sum(sizes) / 1e6:.1f} MB in {folder}, which may be deleted at any time"
    return Diagnosis("exported models", found if sizes else f"none yet in {folder}")
