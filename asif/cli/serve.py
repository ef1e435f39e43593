"""asif serve."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from asif.cli import options
from asif.errors import MissingDependency

# Encoders use all processors themselves: other threads of BLAS would wait beside them, and it spins while it waits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported
_LIBRARIES = ("starlette", "uvicorn", "pydantic", "prometheus_client", "python_multipart")


@click.command("serve")
@click.option("--anchors", multiple=True, metavar="REF", help="Anchors to serve.  [default: imagenet-head]")
@click.option("--gallery", "galleries", multiple=True, metavar="G", help="A gallery to search.")
@click.option("--config", type=click.Path(path_type=Path), help="A file with limits, keys and more; options win.")
@click.option("--host", metavar="HOST", help="Where to listen; other than this machine only with keys.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 is any that is free.  [8000]")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; each loads the encoders.  [1]")
@click.option("--access-log", is_flag=True, help="Log each request to stderr, as JSON.")
@click.option("--new-key", is_flag=True, help="Print a new key and its lines for the configuration; serve nothing.")
@options.device
@options.backend
@options.home
def command(config: Path | None, new_key: bool, home: Path | None, access_log: bool, **params: Any) -> None:
    """Serve classification and search over HTTP, with a page at /.

    Anchors are swapped and edited while requests are answered. Without keys only this machine can call. The
    configuration is described in docs/serving.md.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"{', '.join(missing)} is not installed", "the libraries of the service", "pip install 'asif-engine[serve]'"
        )
    from asif.anchorset import default_home
    from asif.service.config import ServeConfig, read_config
    from asif.service.keys import hash_key, make_key

    if new_key:
        key = make_key()
        options.print_notice("the key, which is shown once; callers send it as: Authorization: Bearer KEY")
        options.print_data(key)
        options.print_notice("its lines for the configuration:")
        options.print_data(f'[[keys]]\nsha256 = "{hash_key(key)}"\ntenant = "name"\nrole = "read"')
        return
    place = home or default_home()
    settings = ServeConfig(place) if config is None else read_config(config, place)
    source = click.get_current_context().get_parameter_source
    given: dict[str, Any] = {
        name: value for name, value in params.items() if source(name) is not ParameterSource.DEFAULT
    }
    settings = replace(settings, **given, access_log=access_log)
    from asif.engine.default_sets import open_anchors
    from asif.service.server import run_service

    for ref in settings.anchors:  # ready-made anchors are built once, and a wrong name is reported at once
        open_anchors(ref, home=place).close()
    run_service(settings)
