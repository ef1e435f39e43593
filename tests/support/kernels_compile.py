"""Compile the kernels for devices of capability 8.0 and 9.0, without one; write what instructions they use."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asif.kernels import cuda, triton_

LISTS = {"entries": "*i64", "counts": "*i32", "row_stride": "i32", "capacity": "i32"}
SIZES = {"query_count": "i32", "anchor_count": "i32"}
ALIGNED = ("queries", "anchors", "limits", "entries", "counts", "row_stride")


def compiled(kernel: Any, types: dict[str, str], shape: dict[str, Any], capability: int = 90) -> str:
    """Compile a kernel for arguments of these types and name what it uses."""
    options = {name: shape.pop(name) for name in ("num_warps", "num_stages") if name in shape}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in shape else types[name] for name in names}
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in shape.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED if name in names},
    )
    target = GPUTarget("cuda", capability, 32)
    ptx = triton.compile(source, target=target, options={**options, **cuda.LAUNCH_OPTIONS}).asm["ptx"]
    found = {kind for kind in ("wgmma", "mma.sync", "cp.async") if re.search(rf"\b{re.escape(kind)}", ptx)}
    return " ".join(sorted(found | ({"local"} if re.search(r"\.local\b", ptx) else set())))


def main() -> dict[str, str]:
    """Compile each kernel in the shapes that searches use."""
    made = {}
    for stored in ("fp16", "bf16", "fp32"):
        types = {"queries": "*bf16" if stored == "bf16" else "*fp16", "anchors": f"*{stored}", "limits": "*fp32"}
        shape = {"DIM": 768, **cuda.choose_many_tiles(1024)}
        made[f"90 propose 128 {stored}"] = compiled(triton_.propose, {**types, **LISTS, **SIZES}, shape)
    shape = {"DIM": 384, **cuda.choose_many_tiles(128)}
    made["80 propose 128 fp16"] = compiled(
        triton_.propose, {**types, **LISTS, **SIZES, "anchors": "*fp16"}, shape, capability=80
    )
    shape = {"DIM": 100, **cuda.choose_many_tiles(16)}
    made["90 propose 16"] = compiled(triton_.propose, {**types, **LISTS, **SIZES}, shape)
    types["queries"] = "*fp32"
    for asked in (1, 5):
        shape = {"DIM": 768, **cuda.choose_few_tiles(asked, 768)}
        made[f"90 propose_few {asked}"] = compiled(triton_.propose_few, {**types, **LISTS, **SIZES}, shape)
    types |= {"floors": "*fp32", "keys": "*i64", "listed": "*i32", "broken": "*i32", "first": "i64", "chunks": "i32"}
    for stored in ("bf16", "fp32"):
        types["anchors"] = f"*{stored}"
        shape = {"DIM": 768, "ENTRIES": cuda.WORDS_PER_PROGRAM, "DIMS": 128}
        made[f"90 score {stored}"] = compiled(triton_.score, {**types, **LISTS}, shape)
    types = {"indices": "*i64", "values": "*fp32", "starts": "*i64", "rows": "*i32", "weights": "*fp32"}
    types |= {"sums": "*fp64", "k": "i32", "count": "i32", "chunks": "i32"}
    made["90 add_products"] = compiled(triton_.add_products, types, {"ENTRIES": 16, "POSTINGS": 16})
    return made


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
