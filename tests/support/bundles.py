"""Export and import sets in memory, and archives with other members or manifests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.anchorset_sets import files

from asif.anchorset import AnchorSet, Store
from asif.anchorset.sharing.tar_archive import TarSource, compute_archive_size, write_archive


def exported(home: Path, ref: str = "toy") -> bytes:
    out = io.BytesIO()
    with Store(home).pack(ref) as bundle:
        write_archive(out, bundle, lambda done: None)
        assert len(out.getvalue()) == compute_archive_size(bundle.manifest)
    return out.getvalue()


def imported(home: Path, data: bytes, name: str | None = None) -> AnchorSet:
    return Store(home).receive(TarSource(io.BytesIO(data), "a.tar"), name).anchors


def left(home: Path) -> list[str]:
    """Return the names of the sets of a store, and check that its staging folder is empty."""
    assert files(home / "anchors" / ".incoming") == []
    return [path.name for path in sorted(home.glob("anchors/[!.]*"))]


def members(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar.getmembers()]  # type: ignore[union-attr]


def packed(items: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    for info, content in items:
        out.write(info.tobuf(form))
        out.write(content + bytes(-len(content) % 512))
    out.write(bytes(1024))
    return out.getvalue()


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content if kind == tarfile.REGTYPE else b""


def replace_info(info: tarfile.TarInfo, **changes: Any) -> tarfile.TarInfo:
    return info.replace(**changes, deep=True)


def resealed(archive: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Change what the manifest says, and seal it again, as a stranger would."""
    from asif.vectors import dump_checksummed

    (info, data), *rest = members(archive)
    fields = json.loads(data)
    del fields["checksum"]
    change(fields)
    sealed = dump_checksummed(fields)
    return packed([(replace_info(info) if len(sealed) == info.size else member(info.name, sealed)[0], sealed), *rest])
