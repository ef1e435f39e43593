"""`asif anchors select` on the set `toy`, and concepts for it."""

from __future__ import annotations

from pathlib import Path

from support.running import Cli, Ran


def select(cli: Cli, *arguments: object, ref: str = "toy") -> Ran:
    return cli("anchors", "select", ref, "--name", "few", *arguments)


def concept_file(folder: Path, content: str = "red_panda\nowl\nnewt\n\n") -> Path:
    path = folder / "concepts.txt"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    return path
