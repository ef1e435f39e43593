"""Which kernels are tested on this machine: one skip for each instruction set and device that it lacks."""

from __future__ import annotations

import pytest
from support.kernels_cases import CPU_ENGINES, CUDA, EVERY_ENGINE

from asif.kernels import native_binding


@pytest.mark.parametrize("instructions", native_binding.INSTRUCTION_SETS)
def test_instruction_sets(instructions: str) -> None:
    if instructions not in native_binding.list_instruction_sets():
        pytest.skip(f"this machine lacks {instructions}, or it was not compiled: none of its kernels is tested here")
    assert f"cpu-{instructions}" in CPU_ENGINES
    native_binding.load_native(instructions)


def test_cuda_device() -> None:
    import torch

    assert torch.cuda.is_available() == CUDA  # which was found out without torch
    if not CUDA:
        pytest.skip("this machine lacks a CUDA device: its kernels run in Triton's interpreter only")
    assert "cuda" in EVERY_ENGINE
