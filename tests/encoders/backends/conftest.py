"""Small encoders with random weights in folders, which export in a second; the runtimes that are installed."""

from __future__ import annotations

import pytest
from support.tiny_encoders import save_text_model

from asif.encoders.backends.runtime import list_runtimes

RUNTIMES = ("onnx", "openvino")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param not in list_runtimes():
        pytest.skip(f"{request.param} is not installed")
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def image_spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of an untrained timm model in a folder."""
    import timm
    import torch
    from timm.models import save_for_hf

    folder = tmp_path_factory.mktemp("timm") / "model"
    torch.manual_seed(5)
    model = timm.create_model("test_efficientnet", pretrained=False, num_classes=7).eval()
    save_for_hf(model, str(folder), safe_serialization=True)
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="session")
def text_spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of an untrained BERT with mean pooling, a dense layer and unit vectors, in a folder."""
    return f"sentence-transformers:{save_text_model(tmp_path_factory.mktemp('bert'))}"
