"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def late_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package: it imports the module that defines a name.

    `homes` lists the names of each module of the package, separated by spaces.

    >>> late_names("json", {"decoder": "JSONDecodeError JSONDecoder"})("JSONDecoder").__name__
    'JSONDecoder'
    """
    modules = {name: f"{package}.{module}" for module, names in homes.items() for name in names.split()}

    def import_name(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return import_name
