"""python -m asif."""

from asif.cli import main

main()
