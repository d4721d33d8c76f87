"""Specs from YAML: a folder is read whole, and refused whole with every problem of every file at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iotcore.errors import ConfigError, Problem, SpecError
from iotcore.specs import check, yaml12
from iotcore.specs.model import DeviceSpec
from iotcore.strict import convert

MAX_FILE_BYTES = 256 * 1024  # our own limit; the largest panel map stays far below it
PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(package: Path = PACKAGE) -> Path:
    """The specs that come with iotcore: beside the package in a checkout, inside it in a wheel."""
    wheel = package / "shipped" / "firmware_specs"
    return wheel if wheel.is_dir() else package.parent / "firmware_specs"


class Specs(Mapping[str, DeviceSpec]):
    """The specs of a folder, each read and checked when it is first asked for.

    For processes: a city uses a few models, and a panel of 20,000 points that nobody has costs nothing. Whoever wants the
    folder refused whole (`iotcore up`, `init`, `spec check`) uses `load_folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        self._read: dict[str, DeviceSpec] = {}

    def __getitem__(self, model: str) -> DeviceSpec:
        """Raises KeyError for a model that the folder does not have, SpecError for a file that is wrong."""
        if model not in self._read:
            self._read[model] = load_file(self._files[model])
        return self._read[model]

    def __contains__(self, model: object) -> bool:
        return model in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load_folder(folder: Path) -> dict[str, DeviceSpec]:
    """Every `*.yaml` of `folder`, by model.

    Raises:
        SpecError: with all problems of all files, or that there is none.
    """
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    problems = [Problem(path.name, "", "name it .yaml, else it is not read") for path in sorted(folder.glob("*.yml"))]
    if not files:
        problems.append(Problem(str(folder), "", "holds no device spec (*.yaml)"))
    specs = {}
    for path in files:
        try:
            specs[path.stem] = load_file(path)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return specs


def load_file(path: Path) -> DeviceSpec:
    """One spec. Raises SpecError with all its problems."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError([Problem(path.name, "", f"cannot be read: {error.strerror}")]) from error
    return parse(content, path.name)


def parse(content: bytes, file: str) -> DeviceSpec:
    """The spec that `content` (YAML, UTF-8) holds, written out; `file` is its name, which must be its model's.

    Raises:
        SpecError: with all its problems. Nothing else, whatever the bytes.
    """
    document = _plain(content, file)
    try:
        spec = convert(document, DeviceSpec, file)
    except ConfigError as error:
        raise SpecError(list(error.problems)) from error
    except RecursionError as error:
        raise SpecError([Problem(file, "", "nested too deeply")]) from error
    return check.checked(spec, file)


def _plain(content: bytes, file: str) -> Any:
    if len(content) > MAX_FILE_BYTES:
        raise SpecError([Problem(file, "", f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        return yaml12.parse(content.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise SpecError([Problem(file, "", str(error))]) from error
