"""A public pytest plugin: with `pytest_plugins = "simulators.pytest_plugin"` a test has real devices and a running platform.

    simulated_device   factory: an MQTT device with its own key and certificate, registered, enrolled, connected
    modbus_bus         factory: several Modbus units behind one port
    simulated_city     factory: premises, stations and junctions of a town, alive
    iotcore_platform   a whole platform in a folder of its own, one for the session, with a receiving centre
    iotcore_settings   what its settings file shall say besides: override it in your conftest.py
                       {"fire": {"https_port": 8446}} lets fire devices go round a dead broker by HTTPS after 3 s
    iotcore_specs      the device specs, those of the `specs` folder of your settings or the shipped ones

Tests need no async: the simulators live on a thread of their own. docs/testing-your-integration.md has a guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from iotcore.specs.load import load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec
from simulators.background import Background
from simulators.bench import Bench, ModbusBus, SimulatedCity, SimulatedDevice
from simulators.platform_process import PlatformProcess


@pytest.fixture(scope="session")
def iotcore_settings() -> Mapping[str, Any]:
    """What the platform's settings file shall say besides its defaults, such as {"specs": "my_specs"}; override it."""
    return {}


@pytest.fixture(scope="session")
def iotcore_specs(iotcore_settings: Mapping[str, Any]) -> dict[str, DeviceSpec]:
    """The device specs by model."""
    return load_folder(Path(iotcore_settings["specs"]) if iotcore_settings.get("specs") else shipped_folder())


@pytest.fixture(scope="session")
def simulators_background() -> Iterator[Background]:
    """The loop that all simulators of the session live on."""
    with Background() as background:
        yield background


@pytest.fixture(scope="session")
def iotcore_platform(
    tmp_path_factory: pytest.TempPathFactory, simulators_background: Background, iotcore_settings: Mapping[str, Any]
) -> Iterator[PlatformProcess]:
    """A running platform, one for the session."""
    with PlatformProcess(tmp_path_factory.mktemp("iotcore"), simulators_background, iotcore_settings) as platform:
        yield platform


@pytest.fixture
def simulators_bench(simulators_background: Background, iotcore_specs: dict[str, DeviceSpec]) -> Iterator[Bench]:
    """What the factories below have made; gone at the end of the test."""
    bench = Bench(simulators_background, iotcore_specs)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def simulated_device(simulators_bench: Bench, iotcore_platform: PlatformProcess) -> Callable[..., SimulatedDevice]:
    """A factory: `simulated_device(model, name="", premises="")`."""

    def make(model: str, *, name: str = "", premises: str = "") -> SimulatedDevice:
        return simulators_bench.device(iotcore_platform, model, name=name, premises=premises)

    return make


@pytest.fixture
def modbus_bus(simulators_bench: Bench) -> Callable[..., ModbusBus]:
    """A factory: `modbus_bus({device_id: model})`; no platform is started for it."""

    def make(units: Mapping[int, str], *, host: str = "127.0.0.1", port: int = 0) -> ModbusBus:
        return simulators_bench.bus(units, host=host, port=port)

    return make


@pytest.fixture
def simulated_city(simulators_bench: Bench, iotcore_platform: PlatformProcess) -> Callable[..., SimulatedCity]:
    """A factory: `simulated_city(premises=1, air=1, water=1, signals=1, seed=1)`."""

    def make(*, premises: int = 1, air: int = 1, water: int = 1, signals: int = 1, seed: int = 1) -> SimulatedCity:
        return simulators_bench.city(iotcore_platform, premises=premises, air=air, water=water, signals=signals, seed=seed)

    return make
