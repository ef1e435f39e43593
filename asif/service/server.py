"""Run the application: in this process, or in several workers that share a socket. The door to uvicorn."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import uvicorn

from asif.errors import AsifError
from asif.service.app import create_app
from asif.service.config import ServeConfig
from asif.service.metrics import MULTIPROCESS_VARIABLE, forget_process
from asif.service.service import Service

_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_MOST_WAITING = 2048
_MAC_UNITS = 1 if sys.platform == "darwin" else 1024

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Refuse new requests for a moment before the socket is closed, so that none is lost on its way."""

    def __init__(self, settings: uvicorn.Config, service: Service) -> None:
        super().__init__(settings)
        self._service = service
        service.when_started = self._report_started

    def _report_started(self) -> None:
        """Say that requests are answered, or stop if they never will be."""
        if self._service.failure is not None:
            self.should_exit = True
            return
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAC_UNITS
        _log.info("ready: worker %d holds %.0f MB", os.getpid(), memory / 1e6)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at the second."""
        if self._service.is_draining or not self._service.is_ready:
            super().handle_exit(sig, frame)
            return
        self._service.is_draining = True
        _log.info("stopping: accepted requests are answered, new ones refused")
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, _GRACE_SECONDS, super().handle_exit, sig, frame)


def run_service(config: ServeConfig) -> None:
    """Serve until SIGTERM or Ctrl-C; raises AsifError for what cannot be served, and for a port that is taken."""
    bound = _bind(config)
    host = f"[{config.host}]" if ":" in config.host else config.host
    _log.info("http://%s:%d", host, bound.getsockname()[1])
    if config.workers == 1:
        _run_worker(config, bound)
        return
    with tempfile.TemporaryDirectory(prefix="asif-serve-") as folder:
        metrics = Path(folder) / "metrics"
        metrics.mkdir()
        os.environ[MULTIPROCESS_VARIABLE] = str(metrics)
        _Workers(replace(config, state=Path(folder)), bound).run()


def _bind(config: ServeConfig) -> socket.socket:
    """Return a socket at host and port."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY on TCP alone
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((config.host.strip("[]"), config.port))
    except OSError as error:
        bound.close()
        raise AsifError(
            f"{config.host}:{config.port} cannot be used: {error.strerror or error}",
            "a port that no other program uses",
            "stop that program, or pass another --port",
        ) from error
    bound.set_inheritable(True)
    return bound


def _run_worker(config: ServeConfig, bound: socket.socket) -> None:
    """Serve in this process; raises what kept the service from starting."""
    app = create_app(config)
    service: Service = app.state.service
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        backlog=_MOST_WAITING,
        timeout_graceful_shutdown=int(config.limits.drain_s),
    )
    server = _Server(settings, service)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run(sockets=[bound])
    if service.failure is not None:
        raise service.failure


class _Workers:
    """Keep several workers alive, and stop them together."""

    def __init__(self, config: ServeConfig, bound: socket.socket) -> None:
        self._config, self._bound = config, bound
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[SpawnProcess] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run until a signal; a worker that dies is replaced, one that cannot start ends all."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._stop)
        self._workers = [self._start() for _ in range(self._config.workers)]
        while not self._stopping.wait(_LOOK_SECONDS):
            for at, worker in enumerate(self._workers):
                if not worker.is_alive() and not self._stopping.is_set():
                    self._replace(at)
        for worker in self._workers:
            worker.join(self._config.limits.drain_s + 2 * _GRACE_SECONDS)
            worker.kill()

    def _start(self) -> SpawnProcess:
        worker = self._context.Process(target=_serve_as_worker, args=(self._config, self._bound))
        worker.start()
        return worker

    def _replace(self, at: int) -> None:
        dead = self._workers[at]
        forget_process(dead.pid or 0)
        if dead.exitcode is not None and dead.exitcode > 0:
            self._stop(signal.SIGTERM, None)
            raise AsifError("a worker could not start", "workers that start", "see its message above")
        _log.warning("worker %s died with %s; another one starts", dead.pid, dead.exitcode)
        time.sleep(_RESTART_SECONDS)
        self._workers[at] = self._start()

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        for worker in self._workers:
            if worker.is_alive():
                worker.terminate()


def _serve_as_worker(config: ServeConfig, bound: socket.socket) -> None:
    """Serve in a process of its own; exits with the code of the error if it cannot start."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on as SIGTERM
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        _run_worker(config, bound)
    except AsifError as error:
        _log.error("%s", error)
        sys.exit(error.exit_code)


def _stop_with_parent() -> None:
    """Stop this worker when its parent is gone, which nobody else would do."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
