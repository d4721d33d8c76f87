"""What runs out is told in time: by the keeper's log and figures, and by the doctor."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from iotcore import metrics
from iotcore.app.revoking import Revoking
from iotcore.clock import ManualClock
from iotcore.commands.doctor import _certificates
from iotcore.process import home
from iotcore.settings import Settings, check
from tests.support.ports import free_port

DAY_S = 86_400.0


def settings(folder: Path) -> Settings:
    ports = {name: {"port": free_port()} for name in ("fire", "field")}
    return check({"data": str(folder / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")


def figures() -> dict[str, float]:
    (family,) = metrics.keeper_left.collect()
    return {sample.labels["what"]: sample.value for sample in family.samples}


@pytest.mark.parametrize(
    ("days", "republished", "said"),
    [
        (0.0, False, None),
        (4.9, False, None),
        (5.1, False, "the revocation list fire runs out in 1.9 days"),
        (7.5, False, "the revocation list fire ran out in -0.5 days"),
        (352.0, True, "the certificate of svc.fire.1.in runs out in 13.0 days"),
        (4.1 * 365, True, "the authority fire (issuing) runs out in"),
        (19.1 * 365, True, "the authority fire runs out in"),
    ],
)
async def test_the_keeper_and_the_doctor_say_what_runs_out(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    days: float,
    republished: bool,  # noqa: FBT001
    said: str | None,
) -> None:
    clock, here = ManualClock(now_ms=1_800_000_000_000.0), settings(tmp_path)
    home.prepare(here, clock)
    clock.advance(days * DAY_S)
    keeper = Revoking(here, clock)
    if republished:
        keeper.republish()
    with caplog.at_level(logging.ERROR):
        keeper.look()
        keeper.look()
    found = [record.getMessage() for record in caplog.records]
    doctor = await _certificates(here, clock)
    if said is None:
        assert found == []
        assert keeper.state() == {"running_out": []}
        assert doctor.well
        return
    assert len([line for line in found if line.startswith(said)]) == 1, "said once, not at each look"
    assert any(line.startswith(said) for line in keeper.state()["running_out"])
    assert not doctor.well
    assert doctor.remedy
    keeper.figures()
    assert figures()["list"] == pytest.approx((7 - (0 if republished else days)) * DAY_S, abs=2.0)
