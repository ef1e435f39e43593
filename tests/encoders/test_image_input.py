"""Images as users pass them: each kind gives the pixels of its file; anything else is refused by type and shape."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from support.late import late

from asif.encoders.image_input import iter_images, name_image, take_image, take_image_file
from asif.encoders.images import decode_image
from asif.errors import BadImage, UsageError

if TYPE_CHECKING:
    import torch
else:
    (torch,) = late("torch")

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)
GREY = PIXELS[..., 0]


def write(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def translucent() -> Image.Image:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putalpha(Image.fromarray(GREY))
    return image


FILES = {
    "png": write(Image.fromarray(PIXELS)),
    "jpeg": write(Image.fromarray(PIXELS), "JPEG"),
    "rotated jpeg": write(Image.fromarray(PIXELS), "JPEG", **turned(6)),
    "rotated png": write(Image.fromarray(PIXELS), **turned(8)),
    "mirrored tiff": write(Image.fromarray(PIXELS), "TIFF", **turned(2)),
    "grey": write(Image.fromarray(GREY)),
    "bits": write(Image.fromarray(GREY).convert("1")),
    "palette": write(Image.fromarray(PIXELS).convert("P")),
    "see-through palette": write(Image.fromarray(PIXELS).convert("P"), transparency=3),
    "translucent": write(translucent()),
    "16 bits": write(Image.fromarray(GREY.astype(np.uint16) * 257)),
    "cmyk": write(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
    "gif": write(Image.fromarray(PIXELS), "GIF", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])]),
    "webp": write(translucent(), "WEBP", lossless=True),
}


def rgb(source: Any) -> Any:
    """Decode as an encoder does."""
    return np.asarray(decode_image(take_image(source)))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_pillow_image_is_its_file(name: str, loaded: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(FILES[name])
    expected = np.asarray(decode_image(path))
    for opened in (Image.open(path), Image.open(io.BytesIO(FILES[name]))):
        if loaded:
            opened.load()
        before = (opened.mode, opened.size, dict(opened.info)) if loaded else None
        np.testing.assert_array_equal(rgb(opened), expected)
        np.testing.assert_array_equal(np.asarray(decode_image(take_image(take_image(opened)))), expected)
        np.testing.assert_array_equal(np.asarray(decode_image(take_image_file(opened))), expected)
        assert before in (None, (opened.mode, opened.size, dict(opened.info)))
        opened.close()


def test_an_image_that_was_not_read_keeps_the_bytes_of_its_file() -> None:
    with Image.open(io.BytesIO(FILES["jpeg"])) as opened:
        assert take_image_file(opened) == FILES["jpeg"]
        opened.putpixel((0, 0), (1, 2, 3))
        content = take_image_file(opened)
        assert isinstance(content, bytes) and content != FILES["jpeg"]
        np.testing.assert_array_equal(np.asarray(decode_image(content)), np.asarray(opened))
    with Image.open(io.BytesIO(FILES["jpeg"])) as small:
        small.draft("RGB", (7, 5))
        np.testing.assert_array_equal(np.asarray(decode_image(take_image_file(small))), np.asarray(small))
    with Image.open(io.BytesIO(FILES["gif"])) as frames:
        frames.seek(1)
        np.testing.assert_array_equal(
            np.asarray(decode_image(take_image_file(frames))), np.asarray(frames.convert("RGB"))
        )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda: PIXELS, PIXELS),
        (lambda: torch.from_numpy(PIXELS), PIXELS),
        (lambda: PIXELS[::-1, ::2], PIXELS[::-1, ::2]),
        (lambda: np.asfortranarray(PIXELS), PIXELS),
        (lambda: GREY, np.stack([GREY] * 3, axis=2)),
        (lambda: torch.from_numpy(GREY), np.stack([GREY] * 3, axis=2)),
        (lambda: GREY[..., None], np.stack([GREY] * 3, axis=2)),
        (lambda: io.BytesIO(FILES["png"]), PIXELS),
        (lambda: bytearray(FILES["png"]), PIXELS),
        (lambda: memoryview(FILES["png"]), PIXELS),
    ],
)
def test_pixels_and_files(given: Callable[[], Any], expected: Any) -> None:
    np.testing.assert_array_equal(rgb(given()), expected)
    np.testing.assert_array_equal(np.asarray(decode_image(take_image_file(given()))), expected)


def test_a_file_object_is_read_from_its_beginning_as_often_as_it_is_given() -> None:
    file = io.BytesIO(FILES["png"])
    file.seek(0, 2)
    assert [take_image(file), take_image(file)] == [FILES["png"]] * 2
    pipe = io.BufferedReader(io.BytesIO(FILES["png"]))
    pipe.seekable = lambda: False  # type: ignore[method-assign]
    assert take_image(pipe) == FILES["png"]


def test_what_was_taken_does_not_change() -> None:
    frame = PIXELS.copy()
    taken = take_image(frame)
    frame[:] = 0
    np.testing.assert_array_equal(np.asarray(taken), PIXELS)


def test_one_or_many() -> None:
    def count(images: Any) -> int:
        return len(list(iter_images(images)))

    one = ["a.jpg", Path("a.jpg"), b"...", bytearray(b"."), io.BytesIO(), Image.fromarray(PIXELS), PIXELS, GREY]
    assert [count(each) for each in [*one, torch.from_numpy(PIXELS)]] == [1] * 9
    batch = np.stack([PIXELS] * 4)
    assert [count(each) for each in (one, tuple(one), iter(one), {1: b""}.values())] == [8, 8, 8, 1]
    assert [count(each) for each in (batch, torch.from_numpy(batch), batch[:0], [], np.array(["a", "b"]))] == [
        4,
        4,
        0,
        0,
        2,
    ]
    assert all(name_image(each) == "a" for each in iter_images(np.array(["a", "a"])))
    assert next(iter_images(batch)).shape == PIXELS.shape  # type: ignore[union-attr]


@pytest.mark.parametrize("images", [None, 3, {"image": b"..."}, object()])
def test_what_is_neither_one_nor_many(images: Any) -> None:
    with pytest.raises(UsageError, match=f"the images are {type(images).__name__}"):
        iter_images(images)


class Closed:
    """A file object that was closed."""

    def read(self, size: int) -> bytes:
        raise ValueError("I/O operation on closed file")


class Frame:
    """Stand in for a data frame of pandas."""

    ndim = 2

    def iterrows(self) -> Iterator[Any]:
        raise NotImplementedError


def test_a_data_frame_is_no_image() -> None:
    with pytest.raises(UsageError, match="the images are Frame"):
        iter_images(Frame())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "came", "advice"),
    [
        (lambda: PIXELS.astype(np.float32), "ndarray float32 (10, 14, 3)", "uint8"),
        (lambda: PIXELS.astype(np.uint16), "ndarray uint16 (10, 14, 3)", "uint8"),
        (lambda: GREY > 7, "ndarray bool (10, 14)", "uint8"),
        (lambda: PIXELS.transpose(2, 0, 1), "ndarray uint8 (3, 10, 14)", "permute"),
        (lambda: torch.from_numpy(PIXELS).permute(2, 0, 1), "Tensor torch.uint8 (3, 10, 14)", "permute"),
        (lambda: torch.zeros(10, 14, 3), "Tensor torch.float32 (10, 14, 3)", "uint8"),
        (lambda: np.zeros((2, 10, 14, 3), np.uint8), "ndarray uint8 (2, 10, 14, 3)", "convert"),
        (lambda: np.zeros((10, 14, 4), np.uint8), "ndarray uint8 (10, 14, 4)", "convert"),
        (lambda: np.float32(3), "float32 float32 ()", "convert"),
        (lambda: 7, "int 7", "convert"),
        (lambda: [1, 2], "list of 2", "convert"),
        (lambda: {"bytes": b"..."}, "dict of 1", "convert"),
        (lambda: io.StringIO("text"), "a file object StringIO whose read() gives str", "'rb'"),
    ],
)
def test_anything_else_is_refused_by_type_and_shape(given: Callable[[], Any], came: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        take_image(given())
    assert came in caught.value.came and advice in caught.value.fix
    with pytest.raises(UsageError):
        take_image_file(given())


@pytest.mark.parametrize(
    ("given", "came"),
    [
        (lambda: None, "None instead of an image"),
        (lambda: np.zeros((0, 4, 3), np.uint8), "an image of 4x0 pixels"),
        (lambda: np.zeros((300, 2), np.uint8), "a strip"),
        (lambda: np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000x20000"),
        (lambda: Image.open(io.BytesIO(FILES["png"][:-100])), "a Pillow image that cannot be read"),
        (Closed, "a file object that cannot be read"),
    ],
)
def test_images_that_cannot_be_read(given: Callable[[], Any], came: str) -> None:
    with pytest.raises(BadImage, match=came):
        take_image(given())
