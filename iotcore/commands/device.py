"""`iotcore device show DEVICE`: one device as the page shows it, and how it delivers."""

from __future__ import annotations

from contextlib import closing

from iotcore.app import common
from iotcore.commands import office
from iotcore.errors import StartError
from iotcore.settings import Settings
from iotcore.web.view import Shown, StoredView


async def shown(settings: Settings, device: str) -> Shown:
    """What is known of a device.

    Raises:
        StartError: it is not registered.
    """
    async with office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
    with closing(StoredView(settings.folder, lambda: directory, settings.journal_place)) as view:
        found = view.device(device)
    if found is None:
        raise StartError(f"{device} is not registered", "`iotcore devices` lists all that are.")
    return found


def lines(found: Shown) -> list[str]:
    """The same in lines for a person. Times are UTC."""
    told = [
        f"{name:14} {found[name]}"
        for name in ("id", "title", "model", "class", "state", "publisher", "premises_name", "firmware")
    ]
    told += [f"{'last seen':14} {office.moment(found['last_seen_ms'])}"]
    if found["class"] in ("fire_detector", "fire_panel"):
        weak = "; weakly supervised" if found["weakly_supervised"] else ""
        told.append(f"{'supervised':14} trouble after {found['silent_after_ms'] / 1000.0:g} s of silence{weak}")
    told += [f"{'fault':14} {fault['reason']} since {office.moment(fault['since_ms'])}" for fault in found["faults"]]
    conduct = found["conduct"]
    told.append(f"{'lost':14} {conduct['lost']} readings that never came and were given up")
    if conduct["missing"]:
        told.append(f"{'missing':14} {conduct['missing']} readings, since {office.moment(conduct['hole_since_ms'])}")
    told.append(f"{'throttled':14} {conduct['throttled']} readings above ten times its rate")
    if conduct["skew_ms"] is not None:
        told.append(f"{'clock':14} {conduct['skew_ms'] / 1000.0:+.3f} s ahead of ours, with the delay of its network")
    for value in found["values"]:
        why = f" ({value['quality']}: {value['why']})" if value["why"] else ""
        told.append(f"{value['point']:14} {value['value']} {value['unit']}{why} at {office.moment(value['observed_ms'])}")
    return [line.rstrip() for line in told]
