"""`python -m gateway.cli`: as `weir`."""

from gateway.cli import main

main()
