"""The evaluation transform without torch: the bits of timm's own, for every config that timm ships."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.build_images import encoded, exif, random_png

from asif.encoders.eval_transform import EvalTransform
from asif.encoders.images import decode_image
from asif.vectors import Float32

CONFIG = {
    "input_size": (3, 24, 24),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
SIDES = st.integers(1, 90)


@pytest.fixture(autouse=True, scope="module")
def timm() -> Any:
    """Import timm before the first test, whose time it would take."""
    return pytest.importorskip("timm")


def timm_values(config: dict[str, Any], image: Image.Image) -> Float32:
    from timm.data import create_transform

    values: Float32 = create_transform(**config, is_training=False)(image).numpy()
    return values


def transform(config: dict[str, Any]) -> EvalTransform:
    covered = EvalTransform.from_config(config)
    assert covered is not None
    return covered


def assert_equal_bits(found: Float32, expected: Float32) -> None:
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    assert np.array_equal(found.view(np.int32), expected.view(np.int32))


def noise(height: int, width: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(values).convert(mode)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    height = draw(st.integers(1, 40))
    return {
        "input_size": (3, height, draw(st.sampled_from([height, height, draw(st.integers(1, 40))]))),
        "interpolation": draw(st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])),
        "mean": draw(st.tuples(*[st.floats(0, 1)] * 3)),
        "std": draw(st.tuples(*[st.floats(0.01, 2)] * 3)),
        "crop_pct": draw(st.sampled_from([0.1, 0.5, 0.875, 0.887, 0.9, 0.95, 0.965, 1, 1.0, 1.3])),
        "crop_mode": draw(st.sampled_from(["center", "squash"])),
    }


@given(configs(), SIDES, SIDES)
def test_any_config_and_size_give_the_bits_of_timm(config: dict[str, Any], height: int, width: int) -> None:
    if int(config["input_size"][1] / config["crop_pct"]) < 1 or int(config["input_size"][2] / config["crop_pct"]) < 1:
        return  # timm resizes to no pixels
    image = noise(height, width)
    assert_equal_bits(transform(config).apply(image), timm_values(config, image))


@given(st.integers(20, 60), st.integers(20, 60), SIDES, SIDES, st.sampled_from([0.5, 0.9, 1.0, 1.2]))
def test_images_in_a_border_have_the_bits_of_timm(
    height: int, width: int, image_height: int, image_width: int, crop_pct: float
) -> None:
    config = CONFIG | {"crop_mode": "border", "input_size": (3, height, width), "crop_pct": crop_pct}
    if max(image_height, image_width) > 10 * min(image_height, image_width):
        return  # timm resizes to no pixels
    image = noise(image_height, image_width)
    assert_equal_bits(transform(config).apply(image), timm_values(config, image))


@pytest.mark.parametrize(
    ("height", "width"), [(1, 100), (100, 1), (3, 300), (1, 1), (24, 24), (27, 27), (27, 28), (375, 500)]
)
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_tiny_images_and_strips(height: int, width: int, crop_mode: str) -> None:
    config, image = CONFIG | {"crop_mode": crop_mode}, noise(height, width)
    assert_equal_bits(transform(config).apply(image), timm_values(config, image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_decoded_images_of_every_mode(mode: str) -> None:
    image = decode_image(encoded(noise(31, 45, mode), "PNG"))
    assert_equal_bits(transform(CONFIG).apply(image), timm_values(CONFIG, image))


@pytest.mark.parametrize("form", ["I;16", "F", "CMYK", "YCbCr"])
def test_decoded_images_of_rare_modes(form: str) -> None:
    values = np.random.default_rng(1).integers(0, 60_000, (31, 45))
    pictures = {"I;16": Image.fromarray(values.astype(np.uint16)), "F": Image.fromarray(values.astype(np.float32))}
    image = decode_image(encoded(pictures.get(form) or noise(31, 45, "RGB").convert(form), "TIFF"))
    assert_equal_bits(transform(CONFIG).apply(image), timm_values(CONFIG, image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decoded_images_of_every_orientation(orientation: int) -> None:
    image = decode_image(encoded(noise(31, 45), "JPEG", exif=exif((0x0112, 3, 1, bytes([orientation, 0, 0, 0])))))
    assert image.size == ((45, 31) if orientation < 5 else (31, 45))
    assert_equal_bits(transform(CONFIG).apply(image), timm_values(CONFIG, image))


def shipped_configs(timm: Any) -> list[dict[str, Any]]:
    """Return the distinct data configs of all pretrained models of timm."""
    from timm.data import resolve_data_config

    found = [
        resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        for name in timm.list_models(pretrained=True)
    ]
    return list({repr(sorted(config.items())): config for config in found}.values())


def test_every_model_of_timm_is_covered(timm: Any) -> None:
    """Check all 256 values of a channel with each mean and std, and a sample of the configs as they are."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    distinct = shipped_configs(timm)
    assert len(distinct) > 100
    small: dict[str, dict[str, Any]] = {}
    for config in distinct:
        assert transform(config).size == tuple(config["input_size"][1:])
        normalised = config | {"input_size": (3, 16, 16), "crop_pct": 1.0, "crop_mode": "center"}
        small[repr(normalised)] = normalised
    for config in small.values():
        assert_equal_bits(transform(config).apply(ramp), timm_values(config, ramp))
    for config in distinct[:: len(distinct) // 40]:
        image = noise(187, 250)
        assert_equal_bits(transform(config).apply(image), timm_values(config, image))


def test_values_go_to_the_given_array() -> None:
    image = decode_image(random_png(4, 50, 30))
    expected, out = transform(CONFIG).apply(image), np.full((2, 3, 24, 24), np.nan, np.float32)
    returned = transform(CONFIG).apply(image, out[1])
    assert np.shares_memory(returned, out)
    assert_equal_bits(out[1], expected)
    assert np.isnan(out[0]).all()


def test_the_image_stays_as_it_is() -> None:
    image = noise(24, 24)
    before = image.tobytes()
    transform(CONFIG | {"crop_pct": 1.0}).apply(image)
    assert image.tobytes() == before


def test_a_config_from_a_fingerprint() -> None:
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in CONFIG.items()}
    assert EvalTransform.from_config(listed) == transform(CONFIG)


@pytest.mark.parametrize(
    "changed",
    [
        {"interpolation": "random"},
        {"interpolation": ("bilinear", "bicubic")},
        {"crop_mode": "zoom"},
        {"input_size": (1, 24, 24)},
        {"input_size": (3, 24)},
        {"input_size": (3, 0, 24)},
        {"mean": (0.5,)},
        {"std": (0.5, 0.5, 0.0)},
        {"crop_pct": 0},
        {"crop_pct": "0.9"},
        {"crop_border_pixels": 4},
        {"tf_preprocessing": True},
    ],
)
def test_what_is_not_covered(changed: dict[str, Any]) -> None:
    assert EvalTransform.from_config(CONFIG | changed) is None


@pytest.mark.parametrize("missing", CONFIG)
def test_a_config_that_lacks_a_key(missing: str) -> None:
    assert EvalTransform.from_config({key: value for key, value in CONFIG.items() if key != missing}) is None
