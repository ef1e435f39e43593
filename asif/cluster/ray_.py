"""Workers as actors of Ray, here or on a cluster: the door to Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from asif.cluster.pool import ClusterOptions, Outcome, WorkerSpec
from asif.errors import AsifError, MissingDependency, UsageError

_log = logging.getLogger(__name__)

_STORE_BYTES = 100 << 20
"""Memory for objects of a Ray that is started here: only descriptors and small manifests travel."""
_CHECK_SECONDS = 5.0
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class RayPool:
    """Start an actor for each spec that `specs` makes for their number; they live until `close`.

    A Ray that this process is connected to is used, else that at `options.address` or RAY_ADDRESS, else one is started
    here, without dashboard and without statistics of use, and stopped by `close`. Actors share the processors equally.
    With `gpus` each takes a GPU; None means: if there are any. Raises MissingDependency without Ray, UsageError for
    more actors than GPUs, AsifError if there is no cluster at the address.
    """

    def __init__(
        self, specs: Callable[[int], Sequence[WorkerSpec]], options: ClusterOptions, *, gpus: bool | None = False
    ) -> None:
        self._ray = _import_ray()
        self._owned = _connect(self._ray, options.address)
        self._running: dict[Any, int] = {}
        self._checked = time.monotonic()
        try:
            total = self._ray.cluster_resources()
            machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
            on_gpu = bool(total.get("GPU")) if gpus is None else gpus
            self._specs = list(specs(options.actors or int(total.get("GPU", 0) if on_gpu else machines) or 1))
            self._options = _share_resources(total, len(self._specs), on_gpu)
            self._actors = [self._start(spec) for spec in self._specs]
        except BaseException:
            self._disconnect()
            raise

    def _start(self, spec: WorkerSpec) -> Any:
        actor = self._ray.remote(_Actor).options(max_restarts=0, max_task_retries=0, **self._options)
        return actor.remote(spec.make, spec.arguments)

    @property
    def workers(self) -> range:
        """Return the numbers of the workers."""
        return range(len(self._specs))

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        """Let a worker call a method of its object."""
        self._running[self._actors[worker].call.remote(method, arguments)] = worker

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the calls that have ended; raises AsifError if the cluster is gone."""
        self._check_cluster()
        if not self._running:
            time.sleep(min(seconds, 0.05))
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._take(reference) for reference in ready]

    def _take(self, reference: Any) -> Outcome:
        worker = self._running.pop(reference)
        try:
            value, error = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            return Outcome(worker, died=True)
        return Outcome(worker, value, error)

    def replace(self, worker: int) -> None:
        """Start an actor in place of one, which is killed if it lives."""
        self._kill(worker)
        self._running = {reference: other for reference, other in self._running.items() if other != worker}
        self._actors[worker] = self._start(self._specs[worker])

    def _kill(self, worker: int) -> None:
        with suppress(ValueError, self._ray.exceptions.RayError):  # it is dead
            self._ray.kill(self._actors[worker])

    def _check_cluster(self) -> None:
        """Raise AsifError if no node of the cluster is alive."""
        if time.monotonic() - self._checked < _CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        try:
            alive = any(node["Alive"] for node in self._ray.nodes())
        except Exception:  # whatever a lost connection raises
            alive = False
        if not alive:
            raise AsifError(
                "the Ray cluster does not answer any more",
                "a cluster that lives until the end",
                "run the same command again: finished shards are kept",
            )

    def close(self) -> None:
        """Kill the actors, and stop Ray if it was started here."""
        if self._ray.is_initialized():  # Ray stops before some objects, when Python ends
            for worker in self.workers:
                self._kill(worker)
            self._disconnect()

    def _disconnect(self) -> None:
        if self._owned:
            self._ray.shutdown()


class _Actor:
    """Hold the object of a worker; errors of this package travel as values, since Ray wraps those that are raised."""

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._target: Any = None
        self._failure: Exception | None = None
        try:
            self._target = make(*arguments)
        except Exception as error:  # raised by the first call: an actor that fails to start only seems to have died
            self._failure = error

    def call(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, AsifError | None]:
        """Call a method of the object."""
        try:
            if self._failure is not None:
                raise self._failure
            return getattr(self._target, method)(*arguments), None
        except AsifError as error:
            return None, error


def _import_ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingDependency(
            "the engine is ray, which is not installed", "the package ray", "pip install 'asif-engine[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to Ray; tell whether it was connected here, so that it is to be disconnected."""
    if ray.is_initialized():
        return False
    place = address or os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray").setLevel(logging.ERROR)
    here: dict[str, Any] = {} if place else {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address=place, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise AsifError(
            f"Ray cannot be reached{f' at {place}' if place else ''}: {str(error).splitlines()[0]}",
            "the address of a cluster that runs, or none",
            "start one with: ray start --head; or leave --address out",
        ) from error
    _keep_stdout_clean(ray)
    return True


def _keep_stdout_clean(ray: Any) -> None:
    """Log what Ray would print of dead workers on stdout, which is for results."""
    with suppress(AttributeError):  # no setting does this, and a later Ray may do it in another way
        ray._private.worker.print_to_stdstream = lambda data, **_: _log.debug("%s", " ".join(data.get("lines", ())))


def _share_resources(total: dict[str, float], actors: int, on_gpu: bool) -> dict[str, float]:
    """Return the processors, and the GPUs, of each actor.

    >>> _share_resources({"CPU": 8.0, "GPU": 2.0}, 2, True), _share_resources({"CPU": 2.0}, 3, False)
    ({'num_cpus': 4.0, 'num_gpus': 1.0}, {'num_cpus': 0.66, 'num_gpus': 0.0})
    """
    gpus = int(total.get("GPU", 0))
    if on_gpu and actors > gpus:
        raise UsageError(
            f"{actors} actors on a cluster with {gpus} GPUs", "a GPU for each", "pass --device cpu, or fewer --actors"
        )
    share = total.get("CPU", 1.0) / actors
    return {"num_cpus": float(int(share)) if share >= 1 else int(100 * share) / 100, "num_gpus": float(on_gpu)}
