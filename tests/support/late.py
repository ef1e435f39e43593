"""Modules that are imported when a test first uses them, so that collecting tests imports neither torch nor faiss."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Late:
    """Stand for a module: attributes are read, set and deleted there, so monkeypatch works on it, too."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(import_module(self._name))

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # pytest looks for some of them while it collects
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(import_module(self._name), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(import_module(self._name), attribute)


def late(*names: str) -> list[Any]:
    """Return a stand-in for each module named."""
    return [Late(name) for name in names]
