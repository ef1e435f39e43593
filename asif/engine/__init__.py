"""Wire anchor sets, encoders and aligners into the verbs: build, classify, tune, edit, select, purge; hot swap."""

from typing import TYPE_CHECKING

from asif.late_names import late_names

if TYPE_CHECKING:
    from asif.engine.aligner_choice import AlignerChoice, make_named_aligner
    from asif.engine.build import build_anchors, build_from_head, build_from_recipe
    from asif.engine.captions import encode_single_captions, sample_captions
    from asif.engine.classifier import Classifier
    from asif.engine.default_sets import open_anchors
    from asif.engine.edit import add_pairs, merge_anchors, subset_anchors
    from asif.engine.engine import Engine
    from asif.engine.gallery import build_gallery, delete_gallery, update_gallery
    from asif.engine.predict import Classification, Credits, Evidence, Prediction
    from asif.engine.purge import purge_pairs, verify_removal
    from asif.engine.search.query import Query
    from asif.engine.search.results import SearchAnswer, SearchResult
    from asif.engine.select import select_anchors
    from asif.engine.tune import tune_anchors
    from asif.engine.vector_file import read_vectors
    from asif.engine.watcher import WatchState

__getattr__ = late_names(
    __name__,
    {
        "aligner_choice": "AlignerChoice make_named_aligner",
        "build": "build_anchors build_from_head build_from_recipe",
        "captions": "encode_single_captions sample_captions",
        "classifier": "Classifier",
        "default_sets": "open_anchors",
        "edit": "add_pairs merge_anchors subset_anchors",
        "engine": "Engine",
        "gallery": "build_gallery delete_gallery update_gallery",
        "predict": "Classification Credits Evidence Prediction",
        "purge": "purge_pairs verify_removal",
        "search.query": "Query",
        "search.results": "SearchAnswer SearchResult",
        "select": "select_anchors",
        "tune": "tune_anchors",
        "vector_file": "read_vectors",
        "watcher": "WatchState",
    },
)

__all__ = [
    "AlignerChoice",
    "Classifier",
    "Credits",
    "Engine",
    "Evidence",
    "Prediction",
    "Query",
    "SearchAnswer",
    "SearchResult",
    "Classification",
    "WatchState",
    "add_pairs",
    "build_anchors",
    "build_gallery",
    "build_from_head",
    "build_from_recipe",
    "delete_gallery",
    "encode_single_captions",
    "merge_anchors",
    "make_named_aligner",
    "open_anchors",
    "purge_pairs",
    "read_vectors",
    "sample_captions",
    "select_anchors",
    "subset_anchors",
    "tune_anchors",
    "update_gallery",
    "verify_removal",
]
