"""Find which column of a source has which role: by name, then by shape, or as named by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

from asif.errors import InputRefused, UsageError
from asif.modality import is_modality
from asif.pairs.image_files import AUDIO_SUFFIXES

TextRole = Literal["captions", "label", "item", "text"]
"""What a source is read for: captions make a pair with the image, a label makes a labelled image.

An item of a gallery needs an image alone, and may have both; a text has no image.
"""
ColumnShape: TypeAlias = str
"""bytes, image, text, texts, number (whole), float, vector, null; or another content, which no role accepts."""
CellForm = Literal["base64", "JSON list", "Python list"]
"""How a text cell holds an image or several captions."""


_NO_ROLES = ("more_captions", "forms", "missing", "needs_captions", "modality", "text_modality")


@dataclass(frozen=True)
class Columns:
    """Name the column behind each role; None if the source has none.

    `more_captions` are further columns of captions; `forms` {role: form} are the roles whose texts hold something else;
    `missing` are texts such as "nan" that stand in the place of captions. A row without captions is a bad one only if
    it `needs_captions`. `modality` is what the first half of a pair is: `image` is then the column of its files, and
    `image_embedding` that of its vectors. `text_modality` is that of the vectors of the other half.
    """

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
    more_captions: tuple[str, ...] = ()
    forms: Mapping[str, CellForm] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    needs_captions: bool = True
    modality: str = "image"
    text_modality: str = "text"

    def by_role(self) -> dict[str, str]:
        """Return {role: column} for the roles that have a column.

        >>> Columns(image="jpg", captions="caption", more_captions=("title",)).by_role()
        {'image': 'jpg', 'captions': 'caption', 'captions 2': 'title'}
        """
        found = {role: getattr(self, role) for role in ROLES if getattr(self, role)}
        return found | {f"captions {number}": column for number, column in enumerate(self.more_captions, 2)}

    def by_name(self) -> dict[str, str]:
        """Return {role: column} with the roles by the modality, as people name them.

        >>> Columns(image="wav", captions="caption", modality="audio").by_name()
        {'audio': 'wav', 'captions': 'caption'}
        """
        names = {"image": self.modality, "image_embedding": f"{self.modality}_embedding"}
        names["text_embedding"] = f"{self.text_modality}_embedding"
        return {names.get(role, role): column for role, column in self.by_role().items()}

    @property
    def precomputed(self) -> bool:
        """Tell whether both embeddings come with the source."""
        return self.image_embedding is not None and self.text_embedding is not None


ROLES = tuple(field.name for field in fields(Columns) if field.name not in _NO_ROLES)
SHARD_IMAGES = ("jpg", "png", "webp")

_UNUSED_ROLES: dict[TextRole, tuple[str, ...]] = {
    "captions": ("label",),
    "label": ("captions", "text_embedding"),
    "item": ("text_embedding",),
    "text": ("image", "image_embedding", "text_embedding"),
}
_WANTED: dict[TextRole, str] = {
    "captions": "image bytes, image paths or vectors, with captions",
    "label": "images, or image vectors, with labels",
    "item": "image bytes, image paths or vectors",
    "text": "texts",
}
_PIXELS = ("image", "img", "picture", "photo", *SHARD_IMAGES, "jpeg", "image_bytes", "img_bytes")
_SOUNDS = ("audio", "sound", *AUDIO_SUFFIXES, "audio_bytes")
_SOUND_PATHS = ("audio", "sound", "audio_path", "audio_file", "sound_path", "sound_file", "wav_path", "sound_name")
_VECTOR_ENDINGS = ("_embedding", "_emb", "_vector")
_PATHS = (
    *("image", "img", "picture", "photo"),
    *("image_path", "img_path", "filepath", "file_path", "file_name", "filename", "path"),
)
# Compared in lower case; the first name that a source has is used.
_NAMES: dict[str, tuple[str, ...]] = {
    "captions": (
        *("captions", "caption", "sentences", "sentence(s)", "sentence", "texts", "text", "txt", "alt_text", "alttext"),
        *(
            "description",
            "descriptions",
            "title",
            "top_caption",
            "label_text",
            "caption_text",
            "raw_caption",
            "cap",
            "json",
        ),
    ),
    "id": ("id", "key", "__key__", "image_id", "img_id", "imgid", "uid", "uuid"),
    "source": ("source", "dataset", "dataset_name"),
    "licence": ("licence", "license"),
    "url": ("url", "image_url", "img_url"),
    "image_embedding": ("image_embedding", "image_emb", "img_emb", "image_vector"),
    "text_embedding": ("text_embedding", "text_emb", "text_vector", "caption_embedding"),
    "label": ("label", "labels", "class", "cls", "class_name", "classname", "category", "target", "fine_label"),
}
_TEXT_SHAPES: tuple[ColumnShape, ...] = ("text", "number", "float", "bytes", "null")
_ACCEPTS: dict[str, tuple[ColumnShape, ...]] = {
    "image": ("image", "bytes", "text", "null"),
    "captions": ("text", "texts", "bytes", "null"),
    "id": ("text", "number", "bytes", "null"),
    **dict.fromkeys(("source", "licence", "url", "status", "label"), _TEXT_SHAPES),
    **dict.fromkeys(("image_embedding", "text_embedding"), ("vector",)),
}
_LISTED_COLUMNS = 20
_CONVERSIONS = (
    ("list of structs", "write one row for each image, with the same id, or the texts as a list of strings"),
    ("texts", "write one text in each row"),
)
_VECTOR_CONVERSIONS = (
    ("tensor", "write its storage: pa.table({{'{0}': table['{0}'].combine_chunks().storage, ...}})"),
    ("list of int", "convert it in pyarrow: table['{0}'].cast(pa.list_(pa.float32()))"),
    ("list of uint", "convert it in pyarrow: table['{0}'].cast(pa.list_(pa.float32()))"),
    ("list of lists", "write one list of numbers in each row: in numpy, array.reshape(len(array), -1)"),
    ("text", "parse it before it is written: in pandas, frame['{0}'].map(json.loads)"),
)
"""How a column of another content is converted, by what its shape begins with."""


def infer_value_shape(value: Any) -> ColumnShape:
    """Name the shape of a JSON value.

    >>> [infer_value_shape(value) for value in ("a", ["a", "b"], 3, 0.5, None, {"a": 1})]
    ['text', 'texts', 'number', 'float', 'null', 'object']
    """
    if isinstance(value, list):
        return "texts" if all(isinstance(item, (str, dict)) for item in value) else "list of numbers"
    shapes: dict[type, ColumnShape] = {str: "text", int: "number", float: "float", bytes: "bytes", type(None): "null"}
    return shapes.get(type(value), "truth value" if isinstance(value, bool) else "object")


def find_columns(
    shapes: Mapping[str, ColumnShape],
    overrides: Mapping[str, str],
    where: str,
    text_role: TextRole = "captions",
    modality: str | None = None,
) -> Columns:
    """Find the column of each role among {column: shape}; `overrides` {role: column} wins over what is found.

    An empty name means that the role has no column; several caption columns are joined by commas.

    The image is a column named like pixels, else the only `struct<bytes, path>`, else a column named like paths, else
    the only binary column. If both embeddings are there, they are used instead, unless `overrides` names the image.
    `text_role` is the column required with the image; for labels, captions and text vectors are ignored, and image
    vectors are used if they are named, or if there is no image; likewise for items, whose captions and labels are used
    where there are any. For texts images are ignored. `modality` is what the first half of pairs is; None means
    images, or sounds if there are no images, or what vectors are named after, such as `depth_embedding`. A role such as
    `audio` or `audio_embedding` in `overrides` says it too.
    Raises UsageError for an unusable override, InputRefused when a required role has no column.

    >>> find_columns({"TEXT": "text", "jpg": "bytes", "key": "text"}, {}, "a.parquet").by_role()
    {'image': 'jpg', 'captions': 'TEXT', 'id': 'key'}
    >>> find_columns({"audio": "image", "caption": "text"}, {}, "a.parquet").by_name()
    {'audio': 'audio', 'captions': 'caption'}
    """
    roles = _usable_roles(text_role)
    overrides, modality, text_modality = _take_modalities(overrides, modality)
    overrides, absent, more = _split_overrides(shapes, overrides)
    _check_choice(shapes, {**overrides, **dict.fromkeys(absent, "")}, where, roles)
    for column in more:
        _check_choice(shapes, {"captions": column}, where, roles)
    shapes = {column: shape for column, shape in shapes.items() if column not in more}
    names = _list_names(modality or "image")
    found = {role: _find_by_name(shapes, names[role], _ACCEPTS[role]) for role in _NAMES if role in roles}
    by_role: dict[str, Any] = {**found, **overrides, **dict.fromkeys(absent)}
    columns = Columns(
        **by_role,
        more_captions=more,
        needs_captions=text_role != "item",
        modality=modality or "image",
        text_modality=text_modality,
    )
    if text_role == "text":
        _check_required(columns, shapes, where, text_role)
        return columns
    if columns.precomputed and "image" not in overrides:
        return columns
    if text_role == "captions" and {"image_embedding", "text_embedding"} & set(overrides):
        raise UsageError(
            f"{where} has vectors for one side only; it has {_format_shapes(shapes)}",
            "a column for image_embedding and one for text_embedding",
            "name both, or neither",
        )
    if modality is None and columns.image is None and _find_files(shapes, None) is None:
        other = _choose_named_vectors(columns, shapes, text_role)
        if other is not None:
            return other
    columns = _choose_inputs(columns, shapes, overrides, text_role, modality)
    if columns.status is None and columns.image in SHARD_IMAGES and {"key", "url"} & set(shapes):
        columns = replace(columns, status=_find_by_name(shapes, ("status",), _TEXT_SHAPES))
    _check_required(columns, shapes, where, text_role)
    return columns


def _choose_inputs(
    columns: Columns,
    shapes: Mapping[str, ColumnShape],
    overrides: Mapping[str, str],
    text_role: TextRole,
    modality: str | None,
) -> Columns:
    """Choose the images or sounds of pairs that are to be encoded, or the vectors of labelled ones and of items."""
    vectors = columns.image_embedding
    columns = replace(columns, image_embedding=None, text_embedding=None)
    if text_role in ("label", "item") and "image_embedding" in overrides:
        columns = replace(columns, image=None, image_embedding=vectors)
    elif columns.image is None:
        taken = set(columns.by_role().values())
        free: dict[str, ColumnShape] = {name: shape for name, shape in shapes.items() if name not in taken}
        file = _find_files(free, modality)
        columns = columns if file is None else replace(columns, image=file[0], modality=file[1])
        if text_role in ("label", "item") and columns.image is None:
            columns = replace(columns, image_embedding=vectors)
    return columns


def _take_modalities(overrides: Mapping[str, str], modality: str | None) -> tuple[Mapping[str, str], str | None, str]:
    """Return overrides with the usual roles, and the modalities of both halves, which roles may be named after.

    >>> _take_modalities({"audio": "clip"}, None), _take_modalities({"depth_embedding": "v"}, None)
    (({'image': 'clip'}, 'audio', 'text'), ({'image_embedding': 'v'}, 'depth', 'text'))
    """
    ending = _VECTOR_ENDINGS[0]
    named = [role.removesuffix(ending) for role in overrides if role == "audio" or role.endswith(ending)]
    others = sorted({each for each in named if each not in ("image", "text")})
    if not others:
        return overrides, modality, "text"
    first, text = others[0], "image" if "image" in named else "text"
    renamed = {"audio": "image", f"{first}{ending}": f"image{ending}"}
    if text == "image":
        renamed[f"image{ending}"] = f"text{ending}"
    return {renamed.get(role, role): column for role, column in overrides.items()}, first, text


def _list_names(modality: str) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of each role, for pairs whose first half is of a modality."""
    if modality == "image":
        return {"image": (*_PIXELS, *_PATHS), **_NAMES}
    files = (*_SOUNDS, *_SOUND_PATHS, *_PATHS) if modality == "audio" else ()
    return {"image": files, **_NAMES, "image_embedding": tuple(modality + ending for ending in _VECTOR_ENDINGS)}


def _choose_named_vectors(columns: Columns, shapes: Mapping[str, ColumnShape], text_role: TextRole) -> Columns | None:
    """Choose the vectors of another modality than images, where there are those of one: None if there are not.

    They go with the vectors of texts, or with those of images as the second half.
    """
    found: dict[str, str] = {}
    for column, shape in shapes.items():
        name = next((column.lower().removesuffix(end) for end in _VECTOR_ENDINGS if column.lower().endswith(end)), "")
        if shape == "vector" and is_modality(name) and name not in ("image", "img", "text", "caption"):
            found.setdefault(name, column)
    if len(found) != 1:
        return None
    ((modality, column),) = found.items()
    if text_role != "captions":
        alone = columns.image_embedding is None
        return replace(columns, image_embedding=column, text_embedding=None, modality=modality) if alone else None
    if columns.text_embedding is not None:
        return replace(columns, image_embedding=column, modality=modality)
    if columns.image_embedding is None:
        return None
    second = columns.image_embedding
    return replace(columns, image_embedding=column, text_embedding=second, modality=modality, text_modality="image")


def _split_overrides(
    shapes: Mapping[str, ColumnShape], overrides: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Return {role: column}, the roles that shall have no column, and further columns of captions."""
    named = {role: column for role, column in overrides.items() if column}
    captions = named.get("captions", "")
    several = [captions] if captions in shapes else [column.strip() for column in captions.split(",")]
    if captions:
        named["captions"] = several[0]
    return named, tuple(role for role, column in overrides.items() if not column), tuple(several[1:])


def _usable_roles(text_role: TextRole) -> tuple[str, ...]:
    return tuple(role for role in ROLES if role not in _UNUSED_ROLES[text_role])


def check_shard(columns: Columns, shapes: Mapping[str, ColumnShape], where: str) -> None:
    """Raise InputRefused unless a further shard has the same columns in a usable shape."""
    for role, column in columns.by_role().items():
        if shapes.get(column) not in _ACCEPTS[role.split()[0]]:
            raise InputRefused(
                f"{where} has no column {column!r} that can be used as {role}; it has {_format_shapes(shapes)}",
                "the same columns in all files that are read as one source",
                "move files of another kind out of the folder",
            )


def _find_by_name(
    shapes: Mapping[str, ColumnShape], names: tuple[str, ...], accepts: tuple[ColumnShape, ...]
) -> str | None:
    usable = [column for column, shape in shapes.items() if shape in accepts]
    return next((column for name in names for column in usable if column.lower() == name), None)


def _find_files(shapes: Mapping[str, ColumnShape], modality: str | None) -> tuple[str, str] | None:
    """Return the column of the files of the first half of pairs, and their modality; None if there is none."""
    structs = [column for column, shape in shapes.items() if shape == "image"]
    binaries = [column for column, shape in shapes.items() if shape == "bytes"]
    sounds = _find_by_name(shapes, _SOUNDS, ("image", "bytes")) or _find_by_name(shapes, _SOUND_PATHS, ("text",))
    if modality == "audio":
        one = structs[0] if len(structs) == 1 else None
        column = (
            sounds or one or _find_by_name(shapes, _PATHS, ("text",)) or (binaries[0] if len(binaries) == 1 else None)
        )
        return None if column is None else (column, "audio")
    pictures = [column for column in structs if column.lower() not in _SOUNDS]
    column = _find_by_name(shapes, _PIXELS, ("image", "bytes", "null")) or (pictures[0] if len(pictures) == 1 else None)
    if column is None and sounds is not None and modality is None:
        return sounds, "audio"
    column = column or _find_by_name(shapes, _PATHS, ("text",)) or (binaries[0] if len(binaries) == 1 else None)
    return None if column is None else (column, "image")


def _check_choice(
    shapes: Mapping[str, ColumnShape], overrides: Mapping[str, str], where: str, roles: tuple[str, ...]
) -> None:
    for role, column in overrides.items():
        if role not in roles:
            raise UsageError(f"unknown role {role!r}", f"one of {', '.join(roles)}", "name a role that exists")
        if not column:
            continue
        if column not in shapes:
            raise UsageError(
                f"{where} has no column {column!r}",
                f"one of {_format_shapes(shapes)}",
                f"choose one of them for {role}",
            )
        if shapes[column] not in _ACCEPTS[role]:
            raise UsageError(
                f"column {column!r} of {where} holds {shapes[column]}",
                f"{' or '.join(_ACCEPTS[role])} for {role}",
                f"{_advise_conversion(role, column, shapes[column])}choose another column for {role}: "
                + _format_shapes(shapes),
            )
    embeddings = {role for role in ("image_embedding", "text_embedding") if overrides.get(role)}
    if embeddings and overrides.get("image"):
        raise UsageError(
            "both an image column and an embedding column were named",
            "images to be encoded, or precomputed vectors",
            "name one of the two",
        )


def _check_required(columns: Columns, shapes: Mapping[str, ColumnShape], where: str, text_role: TextRole) -> None:
    pictures = "image" if columns.image_embedding is None else "image_embedding"
    required = {"item": (pictures,), "text": ("captions",)}.get(text_role, (pictures, text_role))
    if pictures in required and getattr(columns, pictures) is None and columns.url is not None:
        raise InputRefused(
            f"{where} has only URLs (column {columns.url!r}), no images",
            "image bytes, image paths or vectors",
            "download the images with img2dataset first, then give its parquet or tar files",
        )
    for role in required:
        if getattr(columns, role) is None:
            _refuse_other_shapes(role, shapes, where, columns.modality)
            name = role.replace("image", columns.modality)
            raise InputRefused(
                f"{where} has no column that looks like {name}; it has {_format_shapes(shapes)}",
                _WANTED[text_role].replace("image", columns.modality),
                f"say which column it is: {name}=COLUMN",
            )


def _refuse_other_shapes(role: str, shapes: Mapping[str, ColumnShape], where: str, modality: str) -> None:
    """Raise InputRefused for a column that is named like a role and holds what cannot be used for it."""
    roles = (role, "image_embedding", "text_embedding") if role == "image" else (role,)
    names = _list_names(modality)
    for each in roles:
        for column, shape in shapes.items():
            if column.lower() in names[each] and shape not in ("repeated", *_ACCEPTS[each]):
                wanted = "float vectors" if _ACCEPTS[each] == ("vector",) else " or ".join(_ACCEPTS[each][:-1])
                raise InputRefused(
                    f"column {column!r} of {where} holds {shape}, not {wanted}",
                    f"{wanted} for {each}" + (", a list of as many floats in each row" if "vectors" in wanted else ""),
                    f"{_advise_conversion(each, column, shape)}name another column with --column {each}=NAME: "
                    + _format_shapes(shapes),
                )


def _advise_conversion(role: str, column: str, shape: ColumnShape) -> str:
    """Return how to convert a column for a role, ending in "or", or nothing.

    >>> _advise_conversion("image_embedding", "v", "list of int8")
    "convert it in pyarrow: table['v'].cast(pa.list_(pa.float32())), or "
    """
    conversions = _VECTOR_CONVERSIONS if "vector" in _ACCEPTS[role] else _CONVERSIONS
    advice = next((advice for start, advice in conversions if shape.startswith(start)), None)
    return f"{advice.format(column)}, or " if advice else ""


def _format_shapes(shapes: Mapping[str, ColumnShape]) -> str:
    listed = [f"{column[:80]} ({shape})" for column, shape in shapes.items()]
    more = len(listed) - _LISTED_COLUMNS
    return ", ".join([*listed[:_LISTED_COLUMNS], *([f"{more} more"] if more > 0 else [])]) or "no columns"
