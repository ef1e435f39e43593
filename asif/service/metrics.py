"""What a service counts, for Prometheus. The door to prometheus_client."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Hold the counters of one process; labels have few values: routes, statuses, stages, reasons."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Histogram(
            "asif_request_seconds",
            "Time from the request to its answer.",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.stage = Histogram(
            "asif_stage_seconds",
            "Time of a stage: queue, encode (a batch), search, answer.",
            ("stage",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.swaps = self._count("asif_swaps", "Swaps of what a name means, by result: ok, failed.", "result")
        self.refused = self._count("asif_refused", "Requests refused, by reason: queue, quota, draining.", "reason")
        self.labels = self._count("asif_label_lists", "Lists of labels, by result: cached, encoded.", "result")
        self.queue_items = self._measure("asif_queue_items", "Images and texts that wait to be encoded.")
        self.queue_bytes = self._measure("asif_queue_bytes", "Bytes that wait to be encoded.")

    def _count(self, name: str, about: str, label: str) -> Counter:
        return Counter(name, about, (label,), registry=self._registry)

    def _measure(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, registry=self._registry, multiprocess_mode="livesum")

    def format(self) -> bytes:
        """Return all values as text, of all workers if there are several."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_process(process: int) -> None:
    """Drop what a dead worker measured as present; its counts stay."""
    mark_process_dead(process)  # type: ignore[no-untyped-call]
