"""Copies to and from a CUDA device: which pass is in flight, and that no buffer is filled while it is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.build_images import random_png
from support.late import Late
from support.machine import cuda_devices
from support.tiny_encoders import headless, tiny_model

from asif.encoders import load_image_encoder, load_text_encoder
from asif.encoders.backends.probe import LARGEST_DIFFERENCE, encode_probe
from asif.encoders.torch_common import ForwardPasses
from asif.encoders.torch_transfer import CudaTransfer, HostTransfer, finish_one_behind
from asif.vectors import Float32

if TYPE_CHECKING:
    import torch
else:
    torch = Late("torch")

IMAGE, TEXT = "embedded:efficientnet-lite0", "embedded:all-minilm-l6-v2"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for a device: streams and events write down what is done with them, tensors stay on the host."""
    done: list[str] = []

    def make_stream(name: str) -> Any:
        return SimpleNamespace(wait_stream=lambda other: done.append(f"{name} waits for {other.name}"), name=name)

    def make_event() -> Any:
        return SimpleNamespace(record=lambda: done.append("started"), synchronize=lambda: done.append("finished"))

    computing = make_stream("computing")
    monkeypatch.setattr("torch.cuda.Stream", lambda: make_stream("copying"))
    monkeypatch.setattr("torch.cuda.Event", make_event)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: computing)
    monkeypatch.setattr("torch.cuda.stream", lambda stream: nullcontext(done.append(f"copy on {stream.name}")))
    monkeypatch.setattr(
        "asif.encoders.torch_transfer.make_page_locked", lambda shape, dtype: torch.full(shape, -99, dtype=dtype)
    )
    return done


def test_vectors_are_those_of_plain_copies(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = headless(tiny_model())
    prepared = [encoder.prepare(random_png(seed, 30, 40)) for seed in range(11)]
    expected = encoder.forward(prepared)
    monkeypatch.setattr(encoder, "_transfer", CudaTransfer("cpu"))
    assert np.array_equal(encoder.forward(prepared), expected)
    copied = ["copy on copying", "computing waits for copying", "started"]
    new = ["copying waits for computing"]
    assert log == [*new, *copied, *new, *copied, "finished", *copied, "finished", "finished"]
    log.clear()
    assert np.array_equal(encoder.tokens(prepared).pooled, expected)
    assert np.array_equal(encoder.forward(prepared[:1]), expected[:1])
    assert new[0] not in log  # buffers are allocated once


def test_a_buffer_is_not_filled_before_its_pass_is_finished(log: list[str]) -> None:
    """The device of this test reads its inputs as late as a device may: when the host waits for the outputs."""
    inputs = [torch.full((2, 3), float(number)) for number in range(9)]
    transfer = CudaTransfer("cpu")

    def start(batch: list[torch.Tensor]) -> Callable[[], Float32]:
        moved = transfer.upload(batch)
        return lambda: moved.sum(dim=(1, 2)).numpy()

    found = list(finish_one_behind(ForwardPasses(2).run(inputs, start)))
    assert [rows for rows, _ in found] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8), slice(8, 9)]
    assert np.concatenate([sums for _, sums in found]).tolist() == [0, 6, 12, 18, 24, 30, 36, 42, 48, 48]


def test_inputs_of_another_shape_take_another_buffer(log: list[str]) -> None:
    transfer = CudaTransfer("cpu")
    for shape, dtype in (((2, 3), torch.float32), ((1, 4), torch.float32), ((1, 4), torch.int64)):
        batch = [torch.ones(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)]
        found, expected = transfer.upload(batch), HostTransfer().upload(batch)
        assert found.dtype == dtype and torch.equal(found, expected)


def test_outputs_of_half_precision_come_back_as_float32(log: list[str]) -> None:
    outputs = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    for transfer in (CudaTransfer("cpu"), HostTransfer()):
        found = transfer.download(outputs)()
        assert found.dtype == np.float32 and found.tolist() == [[1.5, -2.0]]


@pytest.mark.slow
@pytest.mark.skipif(cuda_devices() == 0, reason="no CUDA device: its float32 vectors are not compared with the CPU's")
@pytest.mark.parametrize("side", ["image", "text"])
def test_a_cuda_device_gives_the_vectors_of_the_cpu(side: Any) -> None:
    load: Any = load_image_encoder if side == "image" else load_text_encoder
    spec = IMAGE if side == "image" else TEXT
    device, host = (encode_probe(load(spec, name, "torch"), side) for name in ("cuda", "cpu"))
    assert np.abs(device - host).max() <= LARGEST_DIFFERENCE


@pytest.mark.slow
@pytest.mark.skipif(cuda_devices() == 0, reason="no CUDA device: that its vectors depend on no batch is not tested")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_vectors_of_a_cuda_device_do_not_depend_on_their_batch(precision: Any) -> None:
    images = load_image_encoder(IMAGE, "cuda", "torch", None, precision)
    prepared = [images.prepare(random_png(seed, 30 + seed, 40)) for seed in range(images.batch + 3)]
    whole = images.forward(prepared)
    assert np.array_equal(images.forward(prepared[7:8]), whole[7:8])
    assert np.array_equal(images.forward(prepared[::-1]), whole[::-1])
    assert np.array_equal(images.tokens(prepared[:5]).pooled, whole[:5])
    texts = load_text_encoder(TEXT, "cuda", "torch", None, precision)
    named = [f"{number} dogs" for number in range(40)] + ["a longer text about one more dog"]
    vectors = texts.forward(named)
    assert np.array_equal(texts.forward(named[-1:]), vectors[-1:])
    assert np.array_equal(texts.forward(named[3:5]), vectors[3:5])
