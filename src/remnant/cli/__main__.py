"""python -m remnant.cli."""

from remnant.cli import main

main()
