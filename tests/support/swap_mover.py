"""Run by test_swap in a process of its own: publish versions of a set and move its aliases, one for each line read."""

from __future__ import annotations

import sys
from pathlib import Path

from asif.anchorset import Store


def main() -> None:
    home, name = Path(sys.argv[1]), sys.argv[2]
    for line in sys.stdin:
        what, argument = line.split()
        if what == "remove":
            sys.stdout.write(Store(home).remove(name, [argument]).version + "\n")
        else:
            sys.stdout.write(Store(home).alias(name, what, argument) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
