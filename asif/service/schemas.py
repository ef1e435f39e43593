"""The bodies of requests: checked by pydantic, and published in the OpenAPI document."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

MOST_LABELS = 10_000
MOST_RESULTS = 1_000
MOST_OFFSET = 100_000
MOST_EXPLAINED = 50
MOST_TEMPLATES = 200
_EXPLAINED = 5
_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


_BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("a text with a character that is not white space is expected")
    if "\0" in text:
        raise ValueError("a text without NUL characters is expected")
    return text


def _check_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64 is expected: {error}") from error
    return text


Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$"), AfterValidator(_check_text)]
Template = Annotated[Text, Field(pattern=r"\{c?\}")]
Name = Annotated[str, Field(min_length=1, max_length=2_000)]


class _Body(BaseModel):
    """Refuse unknown fields and values of other types."""

    model_config = ConfigDict(extra="forbid", strict=True)


ImageName = Annotated[str, Field(max_length=1_000, description="How the answer names the image.")]


class ImageFile(_Body):
    """An image as its file in base64."""

    base64: Annotated[str, Field(min_length=4, pattern=_BASE64), AfterValidator(_check_base64)]
    name: ImageName | None = None

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.base64)


class ImageUrl(_Body):
    """An image on the web, where the service fetches from its host."""

    url: Annotated[str, Field(min_length=1, max_length=8_000)]
    name: ImageName | None = None


class UploadedImage(ImageUrl):
    """An image of a multipart body."""

    url: str = ""
    content: bytes


def _tell_form(image: Any) -> str:
    return "url" if isinstance(image, ImageUrl) or (isinstance(image, dict) and "url" in image) else "file"


ImageBody = Annotated[
    Annotated[ImageFile, Tag("file")] | Annotated[ImageUrl, Tag("url")], Field(discriminator=Discriminator(_tell_form))
]


def _need_one_of(*names: str) -> ConfigDict:
    """Return a configuration whose schema says that one list of some has to have an entry."""
    options = [{"required": [name], "properties": {name: {"minItems": 1}}} for name in names]
    return ConfigDict(json_schema_extra={"anyOf": options})  # type: ignore[dict-item]


class ClassifyBody(_Body):
    """Images to label."""

    images: Annotated[list[ImageBody], Field(min_length=1)]
    labels: Annotated[list[Text], Field(min_length=1, max_length=MOST_LABELS, json_schema_extra={"uniqueItems": True})]
    templates: Annotated[list[Template], Field(min_length=1, max_length=MOST_TEMPLATES)] | None = None
    template_mode: Literal["mean", "max"] | None = None
    top: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 5
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED, description="Anchors to name behind the first label.")] = 0
    credits: bool = Field(False, description="Name the source and licence of the pairs behind the first label.")
    anchors: Name | None = Field(
        None, description="The name of an anchor set; the first one that is served by default."
    )
    where: Text | None = Field(None, description="Only pairs that match an expression.")
    licences: Annotated[list[Text], Field(min_length=1)] | None = None


class ExplainBody(ClassifyBody):
    """Images to label, with the anchors and credits behind the first label."""

    explain: Annotated[int, Field(ge=1, le=MOST_EXPLAINED)] = _EXPLAINED
    credits: bool = True


class QueryBody(_Body):
    """A query: texts, images and ids of items are added, the texts of `minus` taken away; '2:kite' counts twice."""

    model_config = _need_one_of("texts", "images", "ids")

    texts: list[Text] = Field(default_factory=list)
    images: list[ImageBody] = Field(default_factory=list)
    ids: list[Name] = Field(default_factory=list)
    minus: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_any(self) -> QueryBody:
        if not self.texts and not self.images and not self.ids:
            raise ValueError("a text, an image or the id of an item is expected")
        return self


class SearchBody(_Body):
    """Queries to a gallery."""

    queries: Annotated[list[QueryBody], Field(min_length=1)]
    gallery: Name | None = Field(None, description="The name of a gallery; the first one that is served by default.")
    k: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 20
    offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)] = 0
    where: Text | None = Field(None, description="Only items that match an expression.")
    only_relevant: bool = False
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED, description="Anchors to name behind each result.")] = 0
    approximate: bool = False
    anchors: Name | None = None


class EmbedBody(_Body):
    """Images and texts to encode."""

    model_config = _need_one_of("images", "texts")

    images: list[ImageBody] = Field(default_factory=list)
    texts: list[Text] = Field(default_factory=list)
    anchors: Name | None = None

    @model_validator(mode="after")
    def _check_any(self) -> EmbedBody:
        if not self.images and not self.texts:
            raise ValueError("an image or a text is expected")
        return self


class PairBody(_Body):
    """A pair to add."""

    image: ImageBody
    captions: Annotated[list[Text], Field(min_length=1, max_length=100)]
    id: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    source: Annotated[str, Field(max_length=1_000)] | None = None
    licence: Annotated[str, Field(max_length=200)] | None = None
    url: Annotated[str, Field(max_length=2_000)] | None = None


class PairsBody(_Body):
    """Pairs to add to an anchor set, or to replace pairs of the same ids with."""

    pairs: Annotated[list[PairBody], Field(min_length=1)]
    replace: bool = False


class SwapBody(_Body):
    """The reference that a served name means from now on: an alias or a version of a set."""

    ref: Name


BODIES: tuple[type[BaseModel], ...] = (ClassifyBody, ExplainBody, SearchBody, EmbedBody, PairsBody, SwapBody)


def list_fields_of_form(body: type[BaseModel]) -> dict[str, str]:
    """Return how each field of a body comes in a form: `list`, `number`, `flag` or `text`."""
    kinds = {}
    for name, schema in body.model_json_schema()["properties"].items():
        options = [schema, *schema.get("anyOf", ())]
        types: list[Any] = [each.get("type") for each in options]
        kinds[name] = next(
            (form for kind, form in (("array", "list"), ("integer", "number"), ("boolean", "flag")) if kind in types),
            "text",
        )
    return kinds
