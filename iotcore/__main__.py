"""`python -m iotcore` is the command `iotcore`."""

from iotcore.cli import main

main()
