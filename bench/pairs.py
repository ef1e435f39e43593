"""Reading parquet: memory and processor seconds by the size of a row group, its compression, and dictionaries."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import ROOT, machine, show

READ = (
    "import sys, time\nimport pyarrow.parquet\nfrom asif.pairs import open_pairs\nstarted = time.process_time()\n"
    "rows = sum(1 for _ in open_pairs(sys.argv[1]).read())\nseconds = time.process_time() - started\n"
    "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
    "print(rows, seconds, *peak)"
)
VALUE = 1 << 20
CONTENTS = ("images", "texts")  # random bytes, and parts of this repository's documents


def make_cells(content: str, count: int, generator: random.Random) -> list[bytes]:
    """Make values of 1 MB."""
    if content == "images":
        return [generator.randbytes(VALUE) for _ in range(count)]
    documents = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
    text = b"".join(document.read_bytes() for document in documents)
    pool = text * (2 * VALUE // len(text) + 1)
    starts = [generator.randrange(len(pool) - VALUE) for _ in range(count)]
    return [pool[start : start + VALUE] for start in starts]


def measure(path: Path) -> str:
    """Return the peak memory and the seconds of reading all pairs, of a processor, the best of two processes."""
    ran = [subprocess.check_output([sys.executable, "-c", READ, str(path)], text=True).split() for _ in range(2)]
    return f"{min(int(peak) for *_, peak in ran) >> 10} MB, {min(float(seconds) for _, seconds, _ in ran):.2f} s"


def main() -> None:
    """Write one row group in each form, and read it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", default="150,300,600")
    parser.add_argument("--codecs", default="snappy,zstd,none")
    options = parser.parse_args()
    counts, codecs = [int(count) for count in options.megabytes.split(",")], options.codecs.split(",")
    forms = [("images", codec, dictionary) for codec in codecs for dictionary in (True, False)]
    forms += [("texts", codec, False) for codec in codecs if codec != "none"]
    generator = random.Random(0)
    rows = {form: [f"{form[0]}, {form[1]}, {'dictionary' if form[2] else 'plain'}"] for form in forms}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pairs.parquet")
        for count in counts:
            for content in CONTENTS:
                table = pa.table({"image": make_cells(content, count, generator), "caption": ["a photo"] * count})
                for form in forms:
                    if form[0] == content:
                        pq.write_table(table, path, row_group_size=count, compression=form[1], use_dictionary=form[2])
                        rows[form].append(measure(path))
    print(machine() + f", pyarrow {pa.__version__}\n")
    show(["values of 1 MB in one row group", *(f"{count} MB" for count in counts)], list(rows.values()))


if __name__ == "__main__":
    main()
