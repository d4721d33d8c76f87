"""The units file of a gateway at a site: refused whole with every reason, and whose children a gateway polls."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotcore.errors import ConfigError
from iotcore.gateway.children import Children
from iotcore.gateway.units import read
from iotcore.registry.directory import Binding, Directory
from tests.support.shipped import SPECS

STATION = "vaisala-aqt530"


def _write(folder: Path, text: str, name: str = "units.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _unit(**changes: str) -> str:
    unit = {"id": "air-1", "title": "Trạm", "model": STATION, "connection": "tcp://10.0.0.7:502?device_id=1", **changes}
    return "  - " + "\n    ".join(f"{key}: {value!r}" for key, value in unit.items()) + "\n"


def test_a_units_file_is_a_directory_of_the_gateways_children(tmp_path: Path) -> None:
    directory = read(_write(tmp_path, f"units:\n{_unit()}"), "gw-7", SPECS)
    (binding,) = directory.devices.values()
    assert (binding.device, binding.title, binding.domain, binding.publisher) == ("air-1", "Trạm", "air", "gw-7")
    assert binding.spec is SPECS[STATION]
    assert binding.accepted
    assert binding.connection == "tcp://10.0.0.7:502?device_id=1"


def test_toml_does_as_well(tmp_path: Path) -> None:
    text = f'[[units]]\nid = "a"\ntitle = "A"\nmodel = "{STATION}"\nconnection = "tcp://h:502?device_id=2"\n'
    assert set(read(_write(tmp_path, text, "units.toml"), "gw-7", SPECS).devices) == {"a"}


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = "units:\n" + "".join(
        (
            _unit(),
            _unit(),
            _unit(id="gw-7"),
            _unit(id="b", model="nobody-knows"),
            _unit(id="c", model="iotcore-smoke-heat"),
            _unit(id="d", connection="http://10.0.0.7"),
            _unit(id="e", connection="tcp://10.0.0.7:502?device_id=1&loop=1-2"),
        )
    )
    with pytest.raises(ConfigError) as caught:
        read(_write(tmp_path, text), "gw-7", SPECS)
    assert [(problem.file, problem.path) for problem in caught.value.problems] == [
        ("units.yaml", "units[2].id"),
        ("units.yaml", "units[3].model"),
        ("units.yaml", "units[4].model"),
        ("units.yaml", "units[5].connection"),
        ("units.yaml", "units[6].connection"),
        ("units.yaml", "units"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("units: [{id: a.b, title: A, model: m, connection: c}]", r"units\[0\]\.id"),
        ("units: [{id: a, title: A, model: m, conection: c}]", r"units\[0\]\.conection: unknown key"),
        ("unit: []", r"units: missing"),
        ("units: [", r"units\.yaml: "),
        ("units: 7", r"units: "),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(_write(tmp_path, text), "gw-7", SPECS)


def test_a_file_that_is_not_there_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: .*gateway\.units"):
        read(tmp_path / "none.yaml", "gw-7", SPECS)


def _binding(device: str, publisher: str, domain: str = "air") -> Binding:
    return Binding(device, device, SPECS[STATION], domain, publisher, "active")


def test_a_gateway_polls_its_own_children_and_nobody_elses() -> None:
    whole = Directory({b.device: b for b in (_binding("gw-1", "gw-1"), _binding("a", "gw-1"), _binding("b", "gw-2"))})
    children = Children(lambda: whole, "gw-1")
    assert set(children().devices) == {"a"}
    assert children() is children(), "the poller follows the object"


def test_children_follow_the_registry_and_say_when_there_is_a_fire_device() -> None:
    now = Directory({"a": _binding("a", "gw-1")})
    children = Children(lambda: now, "gw-1")
    before = children()
    assert not children.has_fire()
    now = Directory({"a": _binding("a", "gw-1"), "p": _binding("p", "gw-1", "fire"), "q": _binding("q", "gw-2", "fire")})
    assert children() is not before
    assert set(children().devices) == {"a", "p"}
    assert children.has_fire()
