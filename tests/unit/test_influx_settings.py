"""What the settings call confidential is what there is: domains and device classes."""

from __future__ import annotations

from typing import get_args

from iotcore.settings import Confidential
from iotcore.specs.model import DeviceClass
from iotcore.wire.topics import DOMAINS


def test_every_domain_and_device_class_can_be_confidential_and_nothing_else() -> None:
    assert set(get_args(Confidential)) == {*DOMAINS, *get_args(DeviceClass)}
