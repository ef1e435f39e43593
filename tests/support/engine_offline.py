"""Run by cli/test_app.py in a process of its own: `asif` with every way to the network shut, noting what is executed.

Usage: engine_offline.py REPORT ARGS... writes to REPORT, as JSON, what an audit hook saw.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "marshal.load")

events: Counter[str] = Counter()
loads: list[dict[str, Any]] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NETWORK:
        events[event] += 1
        raise OSError(f"no network: {event}")
    if event in WATCHED:
        events[f"{event} {arguments[0] if event == 'pickle.find_class' else ''}".strip()] += 1


def note_torch_loads() -> None:
    import torch

    load = torch.load

    def noted(file: Any, *arguments: Any, **options: Any) -> Any:
        loads.append({"file": Path(file).name, "weights_only": options.get("weights_only")})
        return load(file, *arguments, **options)

    torch.load = noted


def main() -> None:
    report, *sys.argv[1:] = sys.argv[1:]
    note_torch_loads()  # torch itself asks ldconfig where libraries are: imported before the watch begins
    sys.addaudithook(watch)
    from asif.cli import main as asif

    try:
        asif()
    finally:
        heavy = [name for name in ("sentence_transformers", "transformers", "timm", "pyarrow") if name in sys.modules]
        Path(report).write_text(json.dumps({"events": events, "loads": loads, "modules": heavy}))


if __name__ == "__main__":
    main()
