"""Which column of a source plays which role: found by name, then by shape, or named by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from asif.errors import InputRefused, UsageError

Words = Literal["captions", "label"]
"""What goes with an image: captions make pairs, a label makes a labelled image."""
Shape = Literal["bytes", "image", "text", "texts", "number", "vector", "null", "other"]


@dataclass(frozen=True)
class Columns:
    """Name the column behind each role; None where the source has none."""

    image: str | None = None
    captions: str | None = None
    id: str | None = None
    source: str | None = None
    licence: str | None = None
    url: str | None = None
    image_embedding: str | None = None
    text_embedding: str | None = None
    status: str | None = None
    label: str | None = None

    def named(self) -> dict[str, str]:
        """Return the roles that have a column: {role: column}.

        >>> Columns(image="jpg", captions="caption").named()
        {'image': 'jpg', 'captions': 'caption'}
        """
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}

    @property
    def precomputed(self) -> bool:
        """Tell whether both embeddings come with the source."""
        return self.image_embedding is not None and self.text_embedding is not None


ROLES = tuple(field.name for field in fields(Columns))
SHARD_IMAGES = ("jpg", "png", "webp")

_OTHERS: dict[Words, Words] = {"captions": "label", "label": "captions"}
_PIXELS = ("image", "img", "picture", "photo", *SHARD_IMAGES, "jpeg", "image_bytes", "img_bytes")
_PATHS = (
    *("image", "img", "picture", "photo"),
    *("image_path", "img_path", "filepath", "file_path", "file_name", "filename", "path"),
)
# Compared in lower case; the first name that is there wins.
_NAMES: dict[str, tuple[str, ...]] = {
    "captions": (
        *("captions", "caption", "sentences", "sentence(s)", "sentence", "texts", "text", "txt", "alt_text", "alttext"),
        *("description", "descriptions", "title", "top_caption", "label_text", "caption_text", "raw_caption"),
    ),
    "id": ("id", "key", "__key__", "image_id", "img_id", "imgid", "uid", "uuid"),
    "source": ("source", "dataset", "dataset_name"),
    "licence": ("licence", "license"),
    "url": ("url", "image_url", "img_url"),
    "image_embedding": ("image_embedding", "image_emb", "img_emb", "image_vector"),
    "text_embedding": ("text_embedding", "text_emb", "text_vector", "caption_embedding"),
    "label": ("label", "labels", "class", "cls", "class_name", "classname", "category", "target", "fine_label"),
}
_WORDS: tuple[Shape, ...] = ("text", "number", "bytes", "null")
_ACCEPTS: dict[str, tuple[Shape, ...]] = {
    "image": ("image", "bytes", "text", "null"),
    "captions": ("text", "texts", "bytes", "null"),
    **dict.fromkeys(("id", "source", "licence", "url", "status", "label"), _WORDS),
    **dict.fromkeys(("image_embedding", "text_embedding"), ("vector",)),
}


def shape_of_value(value: Any) -> Shape:
    """Name the shape of a JSON value.

    >>> [shape_of_value(value) for value in ("a", ["a", "b"], 3, None, {"a": 1})]
    ['text', 'texts', 'number', 'null', 'other']
    """
    if isinstance(value, list):
        return "texts" if all(isinstance(item, (str, dict)) for item in value) else "other"
    shapes: dict[type, Shape] = {str: "text", int: "number", float: "number", bytes: "bytes", type(None): "null"}
    return shapes.get(type(value), "other")


def find_columns(
    shapes: Mapping[str, Shape], chosen: Mapping[str, str], where: str, words: Words = "captions"
) -> Columns:
    """Find the column of each role among {column: shape}; `chosen` {role: column} goes before what is found.

    Images are looked for as named pixels, then any `struct<bytes, path>`, then named paths, then the only binary
    column. Where both embeddings are there they are used instead of the image, unless `chosen` names the image.
    `words` says which column must go with the image; where it is the label, captions and text vectors are left alone,
    and image vectors are used where they are named, or where there is no image.
    Raises UsageError for a choice that cannot be followed, InputRefused when a needed role has no column.

    >>> find_columns({"TEXT": "text", "jpg": "bytes", "key": "text"}, {}, "a.parquet").named()
    {'image': 'jpg', 'captions': 'TEXT', 'id': 'key'}
    """
    roles = _roles(words)
    _check_choice(shapes, chosen, where, roles)
    found = {role: _by_name(shapes, names, _ACCEPTS[role]) for role, names in _NAMES.items() if role in roles}
    columns = Columns(**{**found, **chosen})
    if columns.precomputed and "image" not in chosen:
        return columns
    if words == "captions" and {"image_embedding", "text_embedding"} & set(chosen):
        raise UsageError(
            f"{where} has vectors for one side only; it has {_listed(shapes)}",
            "a column for image_embedding and one for text_embedding",
            "name both, or neither",
        )
    vectors = columns.image_embedding
    columns = replace(columns, image_embedding=None, text_embedding=None)
    if words == "label" and "image_embedding" in chosen:
        columns = replace(columns, image=None, image_embedding=vectors)
    elif columns.image is None:
        taken = set(columns.named().values())
        free: dict[str, Shape] = {name: shape for name, shape in shapes.items() if name not in taken}
        columns = replace(columns, image=_image(free))
        if words == "label" and columns.image is None:
            columns = replace(columns, image_embedding=vectors)
    if columns.status is None and columns.image in SHARD_IMAGES and {"key", "url"} & set(shapes):
        columns = replace(columns, status=_by_name(shapes, ("status",), _WORDS))
    _require(columns, shapes, where, words)
    return columns


def _roles(words: Words) -> tuple[str, ...]:
    unused = ("text_embedding",) if words == "label" else ()
    return tuple(role for role in ROLES if role not in (_OTHERS[words], *unused))


def check_shard(columns: Columns, shapes: Mapping[str, Shape], where: str) -> None:
    """Raise InputRefused unless a further shard has the columns too, in a usable shape."""
    for role, column in columns.named().items():
        if shapes.get(column) not in _ACCEPTS[role]:
            raise InputRefused(
                f"{where} has no column {column!r} that can be used as {role}; it has {_listed(shapes)}",
                "the same columns in all files that are read as one source",
                "move files of another kind out of the folder",
            )


def _by_name(shapes: Mapping[str, Shape], names: tuple[str, ...], accepts: tuple[Shape, ...]) -> str | None:
    usable = [column for column, shape in shapes.items() if shape in accepts]
    return next((column for name in names for column in usable if column.lower() == name), None)


def _image(shapes: Mapping[str, Shape]) -> str | None:
    structs = [column for column, shape in shapes.items() if shape == "image"]
    binaries = [column for column, shape in shapes.items() if shape == "bytes"]
    return (
        _by_name(shapes, _PIXELS, ("image", "bytes", "null"))
        or (structs[0] if len(structs) == 1 else None)
        or _by_name(shapes, _PATHS, ("text",))
        or (binaries[0] if len(binaries) == 1 else None)
    )


def _check_choice(shapes: Mapping[str, Shape], chosen: Mapping[str, str], where: str, roles: tuple[str, ...]) -> None:
    for role, column in chosen.items():
        if role not in roles:
            raise UsageError(f"unknown role {role!r}", f"one of {', '.join(roles)}", "name a role that exists")
        if column not in shapes:
            raise UsageError(
                f"{where} has no column {column!r}", f"one of {_listed(shapes)}", f"choose one of them for {role}"
            )
        if shapes[column] not in _ACCEPTS[role]:
            raise UsageError(
                f"column {column!r} of {where} holds {shapes[column]}",
                f"{' or '.join(_ACCEPTS[role])} for {role}",
                f"choose another column for {role}: {_listed(shapes)}",
            )
    embeddings = {"image_embedding", "text_embedding"} & set(chosen)
    if embeddings and "image" in chosen:
        raise UsageError(
            "both an image column and an embedding column were named",
            "images to be encoded, or precomputed vectors",
            "name one of the two",
        )


def _require(columns: Columns, shapes: Mapping[str, Shape], where: str, words: Words) -> None:
    pictures = "image" if columns.image_embedding is None else "image_embedding"
    if getattr(columns, pictures) is None and columns.url is not None:
        raise InputRefused(
            f"{where} has only URLs (column {columns.url!r}), no images",
            "image bytes, image paths or vectors",
            "download the images with img2dataset first, then give its parquet or tar files",
        )
    wanted = (
        "image bytes, image paths or vectors, with captions"
        if words == "captions"
        else "images, or image vectors, with labels"
    )
    for role in (pictures, words):
        if getattr(columns, role) is None:
            raise InputRefused(
                f"{where} has no column that looks like {role}; it has {_listed(shapes)}",
                wanted,
                f"say which column it is: {role}=COLUMN",
            )


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{column} ({shape})" for column, shape in shapes.items()) or "no columns"
