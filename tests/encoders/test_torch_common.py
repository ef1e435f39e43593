"""The device that encoders run on."""

from __future__ import annotations

import pytest

from asif.encoders import load_image_encoder
from asif.encoders.torch_common import pick_device
from asif.errors import UsageError

IMAGE = "embedded:efficientnet-lite0"


@pytest.mark.slow
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [pick_device("auto"), pick_device("cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        load_image_encoder(IMAGE, "cuda")
