"""The shipped specs, read once for all tests: a panel of 20,000 points is not read by every module anew."""

from __future__ import annotations

from iotcore.specs.load import load_folder, shipped_folder

SPECS = load_folder(shipped_folder())
