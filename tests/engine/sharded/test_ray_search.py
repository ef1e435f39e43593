"""Search by actors of Ray: the bits of one machine, also when an actor is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import make_set
from support.ray_builds import list_actors, list_marked

from asif.anchorset import Store
from asif.cluster.pool import ClusterOptions
from asif.engine.sharded.anchors import ShardedAnchorSet
from asif.engine.sharded.workers import SearchWorkers
from asif.kernels import topk_similarity

pytestmark = pytest.mark.slow


def test_topk_of_actors_is_that_of_all_rows_and_survives_a_kill(ray_here: str, home: Path) -> None:
    opened = make_set(home, count=500)
    queries = np.asarray(opened.blocks("image")[0], np.float32)[:20]
    expected = topk_similarity(queries, opened.blocks("image"), 50)
    for count in (1, 2, 7):
        workers = SearchWorkers(ClusterOptions(count))
        sharded = ShardedAnchorSet(Store(home).open("toy"), workers)
        for attempt in range(2):
            found = topk_similarity(queries, sharded.blocks("image"), 50)
            np.testing.assert_array_equal(found.indices, expected.indices)
            assert found.scores.tobytes() == expected.scores.tobytes()
            actors = list_actors(list_marked(ray_here))
            assert len(actors) == count
            if attempt == 0 and count == 2:
                os.kill(actors[-1], signal.SIGKILL)
        workers.close()


def test_command_searches_and_classifies_by_actors(ray_here: str, cli: Any, home: Path, vectors: Path) -> None:
    cli("build-anchors", vectors, "--name", "toy")
    cli("gallery", "build", vectors, "--name", "g")
    np.save(home.parent / "images.npy", np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32))
    np.save(home.parent / "labels.npy", np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32))
    classify = (
        *("classify", home.parent / "images.npy", "--anchors", "toy", "--labels", "a,b,c", "--template", "{}"),
        *("--label-vectors", home.parent / "labels.npy", "--aligner", "asif", "--json"),
    )
    search = ("search", "g", "--anchors", "toy", "--id", "id-0007", "--aligner", "asif", "--json", "-k", 9)
    for command in (classify, search):
        local, sharded = cli(*command), cli(*command, "--engine", "ray", "--actors", 2)
        assert sharded.code == 0, sharded.err
        assert [_drop_times(line) for line in sharded.lines] == [_drop_times(line) for line in local.lines]


def _drop_times(line: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in line.items() if "ms" not in name})
