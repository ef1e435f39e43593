"""A zero-shot classifier with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asif.aligners import PARAMETER_NAMES, Hubness, TemplateMode
from asif.aligners.hubness import HubnessMethod
from asif.anchorset import Store, default_home, parse_reference
from asif.classify import DEFAULT_TEMPLATES, Labels
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Backend, Device, ImageInputs
from asif.engine.aligner_choice import make_named_aligner
from asif.engine.engine import Engine
from asif.engine.predict import take_label_texts
from asif.errors import NotFound, UsageError
from asif.vectors import Float32, Float64, Side

OnError: TypeAlias = Literal["raise", "skip"]
_DEFAULT_TEMPERATURE = 0.01  # scores are cosines; CLIP, too, multiplies its cosines by 100


class Classifier:
    """Classify images into labels without training on them.

    `fit` takes the labels, `predict` images: paths, bytes, file objects, Pillow images, arrays or tensors. Parameters
    are those of the command line, where `strength` is called lambda; nothing is loaded before `fit`. `aligner` "auto"
    means the anchor set's profile if it was tuned, else a good default; `hubness` None means the profile's correction,
    or none with a named aligner.
    `template_mode` None means the aligner's own: `max` for asif-paper, else `mean`. `temperature` is that of
    `predict_proba`; `on_error` "skip" goes on after an image that cannot be decoded, with None or NaN for it. A fitted
    classifier can be pickled and copied: the anchors are opened again, and refused if their digest is another one.

    >>> Classifier(aligner="asif", k=100).get_params()["k"]
    100
    """

    def __init__(
        self,
        anchors: str = DEFAULT_ANCHORS,
        *,
        aligner: str = "auto",
        k: int | None = None,
        power: float | None = None,
        centre: bool = False,
        strength: float | None = None,
        size: int | None = None,
        towards: Side | None = None,
        weight: float | None = None,
        hubness: HubnessMethod | None = None,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        template_mode: TemplateMode | None = None,
        temperature: float = _DEFAULT_TEMPERATURE,
        on_error: OnError = "raise",
        home: Path | None = None,
        device: Device = "auto",
        backend: Backend = "auto",
    ) -> None:
        self.anchors = anchors
        self.aligner = aligner
        self.k = k
        self.power = power
        self.centre = centre
        self.strength = strength
        self.size = size
        self.towards = towards
        self.weight = weight
        self.hubness: HubnessMethod | None = hubness
        self.templates = templates
        self.template_mode = template_mode
        self.temperature = temperature
        self.on_error: OnError = on_error
        self.home = home
        self.device: Device = device
        self.backend: Backend = backend

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; scikit-learn passes `deep`, but no parameter is nested."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Classifier:
        """Change parameters; they take effect at the next `fit`."""
        unknown = sorted(set(params) - set(self.get_params()))
        if unknown:
            raise UsageError(f"parameters {unknown}", f"some of {sorted(self.get_params())}", "correct the names")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, labels: Sequence[str], y: None = None) -> Classifier:
        """Take the labels and open the anchor set; scikit-learn pipelines pass `y`, which must be None."""
        if y is not None:
            raise UsageError("fit was given y", "labels alone", "call fit(labels): nothing is trained")
        texts = take_label_texts(labels)
        aligner = make_named_aligner(self.aligner, {name: getattr(self, name) for name in PARAMETER_NAMES})
        mode = self.template_mode or (aligner.template_mode if aligner else "mean")
        self.labels_ = Labels(texts, tuple(self.templates), mode)
        self.classes_ = np.array(self.labels_.labels)
        self.engine_ = self._open_engine(self.anchors, {})
        return self

    def decision_function(self, images: ImageInputs, *, on_error: OnError | None = None) -> Float32:
        """Return raw scores [n, labels], which are no probabilities.

        `images` are one or many: paths, bytes, binary file objects, Pillow images, uint8 arrays or tensors [h, w, 3] or
        [h, w]; raises UsageError for anything else. For an image that cannot be decoded, raises BadImage, naming it, or
        BadAudio for a sound; with `on_error` "skip", which replaces the parameter, its row is NaN.
        """
        skips = _skips_errors(on_error or self.on_error)
        if not hasattr(self, "engine_"):
            raise UsageError("predict was called before fit", "a fitted classifier", "call fit(labels) first")
        columns = {label: at for at, label in enumerate(self.labels_.labels)}
        rows: list[Float32] = []
        for result in self.engine_.classify(images, self.labels_, top=len(columns)):
            if result.error and not skips:
                came = f"image {len(rows)}, {result.image}: {result.error.came}"
                raise type(result.error)(came, result.error.expected, result.error.fix)
            rows.append(np.full(len(columns), np.nan, np.float32))
            for prediction in result.predictions:
                rows[-1][columns[prediction.label]] = prediction.score
        return np.stack(rows) if rows else np.empty((0, len(columns)), np.float32)

    def predict(self, images: ImageInputs, *, on_error: OnError | None = None) -> NDArray[Any]:
        """Return the best label of every image [n]; on equal scores the earlier label.

        With `on_error` "skip" the array is of objects: None for an image that cannot be decoded. See
        `decision_function` for images and errors.
        """
        skips = _skips_errors(on_error or self.on_error)
        scores = self.decision_function(images, on_error=on_error)
        best: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        if skips:
            best = best.astype(object)
            best[np.isnan(scores).any(axis=1)] = None
        return best

    def predict_proba(
        self, images: ImageInputs, temperature: float | None = None, *, on_error: OnError | None = None
    ) -> Float64:
        """Return probabilities [n, labels]: the softmax of the scores divided by `temperature`.

        By default that of the classifier is used; the last one used is `temperature_`. The probabilities depend on it
        entirely, and nothing calibrates it: choose it on labelled images. Raises UsageError unless it is above zero.
        """
        self.temperature_ = _check_temperature(self.temperature if temperature is None else temperature)
        logits = self.decision_function(images, on_error=on_error).astype(np.float64) / self.temperature_
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probabilities: Float64 = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def score(self, images: ImageInputs, y: Sequence[str]) -> float:
        """Return the accuracy: the share of images whose best label is that in `y`; a skipped image is a wrong one."""
        predicted, true = self.predict(images), np.asarray(y)
        if not len(predicted) or predicted.shape != true.shape:
            raise UsageError(f"{len(predicted)} images, {true.shape} labels", "one label for each image", "pass both")
        return float(np.mean(predicted == true))

    def __repr__(self) -> str:
        usual = {name: each.default for name, each in signature(type(self)).parameters.items()}
        given = {name: value for name, value in self.get_params().items() if _differs(value, usual[name])}
        given.pop("temperature", None)  # it is always shown, and last
        named = {"anchors": self.anchors, **given, "temperature": getattr(self, "temperature_", self.temperature)}
        fitted = f" fitted to {len(self.classes_)} labels over {self.engine_.anchors.ref}" if self._is_fitted else ""
        return f"Classifier({', '.join(f'{name}={value!r}' for name, value in named.items())}){fitted}"

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn's tools, which call this, that it is a classifier of anything but rows of numbers."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags  # type: ignore[import-untyped]

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False),
        )

    # ---- copies: an engine is opened again, by the reference and the digest of its anchors

    @property
    def _is_fitted(self) -> bool:
        return "engine_" in self.__dict__

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "engine_"}
        if self._is_fitted:
            anchors = self.engine_.anchors
            state["engine_"] = ("+".join(self.engine_.exactly), anchors.digest, anchors.named.pair_filter.as_dict())
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take the parameters, and open the anchors that a fitted classifier used; raises NotFound without them."""
        self.__dict__.update({name: value for name, value in state.items() if name != "engine_"})
        if "engine_" in state:
            self.engine_ = self._reopen(*state["engine_"])

    def _reopen(self, exactly: str, digest: str, pair_filter: Mapping[str, Any]) -> Engine:
        """Open the version that the classifier used, or else a current or older one with the same digest."""
        for ref in (exactly, self.anchors, *self._list_versions(digest)):
            try:
                engine = self._open_engine(ref, pair_filter)
            except NotFound:
                continue
            if engine.anchors.digest == digest:
                return engine
        raise NotFound(
            f"the classifier was fitted over {exactly} (digest {digest[:12]}…), which is not in {self._home}",
            "the same anchors, by name or path and digest",
            "copy the set there (asif anchors export and import), or call fit again",
        )

    def _list_versions(self, digest: str) -> list[str]:
        """List the versions with a digest of the set that the parameters name."""
        try:
            name = parse_reference(self.anchors).name
            log = [] if name is None else Store(self._home).log(name)
        except UsageError:  # a union of several sets, or no such set
            return []
        return [f"{name}@{entry.version}" for entry in log if entry.digest == digest]

    def _open_engine(self, ref: str, pair_filter: Mapping[str, Any]) -> Engine:
        aligner = make_named_aligner(self.aligner, {name: getattr(self, name) for name in PARAMETER_NAMES})
        hubness = Hubness(self.hubness) if self.hubness else None
        return Engine(
            ref,
            **pair_filter,
            home=self.home,
            aligner=aligner,
            hubness=hubness,
            device=self.device,
            backend=self.backend,
        )

    @property
    def _home(self) -> Path:
        return self.home or default_home()


def _skips_errors(on_error: str) -> bool:
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error is {on_error!r}", "raise or skip", 'pass on_error="skip" to leave out bad images')
    return on_error == "skip"


def _check_temperature(temperature: float) -> float:
    if not 0 < temperature < np.inf:
        raise UsageError(f"the temperature is {temperature!r}", "a number above zero", "pass for example 0.01")
    return float(temperature)


def _differs(value: Any, usual: Any) -> bool:
    """Tell whether a parameter is not the default; sequences are compared as tuples."""
    return bool((tuple(value) if isinstance(value, list) else value) != usual)
