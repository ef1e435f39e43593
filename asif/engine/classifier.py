"""A zero-shot classifier with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners import PARAMETER_NAMES, Hubness, TemplateMode
from asif.aligners.hubness import HubnessMethod
from asif.classify import DEFAULT_TEMPLATES, Labels
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Device, ImageSource
from asif.engine.aligner_choice import make_named_aligner
from asif.engine.engine import Engine
from asif.errors import BadImage, UsageError
from asif.vectors import Float32, Side


class Classifier:
    """Classify images into labels without training on them.

    `fit` takes the labels, `predict` image files or encoded bytes. Parameters are those of the command line, where
    `strength` is called lambda; nothing is loaded before `fit`. `aligner` "auto" means the anchor set's profile if it
    was tuned, else a good default; `hubness` None means the profile's correction, or none with a named aligner.
    `template_mode` None means the aligner's own: `max` for asif-paper, else `mean`.

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
        home: Path | None = None,
        device: Device = "auto",
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
        self.home = home
        self.device: Device = device

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; scikit-learn passes `deep`, but no parameter is nested."""
        names = ("anchors", "aligner", *PARAMETER_NAMES, "hubness", "templates", "template_mode", "home", "device")
        return {name: getattr(self, name) for name in names}

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
        if isinstance(labels, str):
            raise UsageError(f"the labels are one text: {labels[:40]!r}", "a list of labels", "call fit([...])")
        aligner = make_named_aligner(self.aligner, {name: getattr(self, name) for name in PARAMETER_NAMES})
        mode = self.template_mode or (aligner.template_mode if aligner else "mean")
        self.labels_ = Labels(tuple(labels), tuple(self.templates), mode)
        self.classes_ = np.array(self.labels_.labels)
        hubness = Hubness(self.hubness) if self.hubness else None
        self.engine_ = Engine(self.anchors, home=self.home, aligner=aligner, hubness=hubness, device=self.device)
        return self

    def decision_function(self, images: Sequence[ImageSource]) -> Float32:
        """Return raw scores [n, labels]; raises BadImage, naming it, for an image that cannot be decoded."""
        if not hasattr(self, "engine_"):
            raise UsageError("predict was called before fit", "a fitted classifier", "call fit(labels) first")
        if isinstance(images, str | bytes | Path):
            raise UsageError(f"the images are one: {str(images)[:80]!r}", "a list of images", "call predict([...])")
        images = list(images)
        columns = {label: at for at, label in enumerate(self.labels_.labels)}
        scores = np.zeros((len(images), len(columns)), np.float32)
        for row, (_, result) in enumerate(self.engine_.classify(images, self.labels_, top=len(columns))):
            if result.error:
                raise BadImage(f"{result.image}: {result.error.came}", result.error.expected, result.error.fix)
            for prediction in result.predictions:
                scores[row, columns[prediction.label]] = prediction.score
        return scores

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.str_]:
        """Return the best label of every image [n]; on equal scores the earlier label."""
        scores = self.decision_function(images)
        best: NDArray[np.str_] = self.classes_[scores.argmax(axis=1)]
        return best

    def score(self, images: Sequence[ImageSource], y: Sequence[str]) -> float:
        """Return the accuracy: the share of images whose best label is that in `y`."""
        predicted, true = self.predict(images), np.asarray(y)
        if not len(predicted) or predicted.shape != true.shape:
            raise UsageError(f"{len(predicted)} images, {true.shape} labels", "one label for each image", "pass both")
        return float(np.mean(predicted == true))
