"""What `make demo` runs: photographs labelled with no data at all, then a new domain learnt from pairs. Offline."""

import tempfile
import time
from pathlib import Path

import new_domain
import photos


def main() -> None:
    """Run both examples in a store of their own."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        print("1. Three photographs, labels that are no ImageNet classes, no image collected\n")
        photos.main(Path(folder))
        print("\n2. A new domain from 1,000 captioned images\n")
        new_domain.main(Path(folder))
    print(f"\n{time.perf_counter() - started:.0f} s in all, offline, nothing trained")


if __name__ == "__main__":
    main()
