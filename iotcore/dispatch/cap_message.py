"""A notice as a message of the Common Alerting Protocol 1.2 (OASIS CAP-v1.2). Pure, and always the same for the same notice.

alarm   → Alert     identifier F20261122-020000-3FA9C1.alarm, sent when it was decided
update  → Update    references that Alert: sender,identifier,sent all follow from the notice itself
restore → Cancel    likewise
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from lxml import etree

from iotcore.dispatch import sia_event, texts
from iotcore.dispatch.texts import Language
from iotcore.journal.records import Notice
from iotcore.registry.landmarks import METRES_PER_DEG, located
from iotcore.settings_channels import CapReceiver

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
LANGUAGES: tuple[tuple[Language, str], ...] = (("vi", "vi-VN"), ("en", "en-US"))
MESSAGE_TYPES = {"alarm": "Alert", "update": "Update", "restore": "Cancel"}
# urgency, severity of a notice that is not the end of one
GRAVITY = {
    "alarm": ("Immediate", "Severe"),
    "pre-alarm": ("Expected", "Moderate"),
    "supervisory": ("Future", "Minor"),
    "trouble": ("Future", "Minor"),
    "advisory": ("Future", "Minor"),
}
SEEN_BY_PEOPLE = frozenset({"manual", "waterflow"})  # somebody pressed, or water flows: more than one detector's word
CORNERS = 8
ROUNDEST_DEG = 85.0  # nearer to a pole, or across the date line, only a circle is told: a polygon would not be one
MAX_HEADLINE = 160  # characters; CAP 1.2 recommends it
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no way to say


def message(notice: Notice, receiver: CapReceiver, part: int = 0) -> Any:
    """The unsigned `alert` element."""
    root = etree.Element(f"{{{NAMESPACE}}}alert", nsmap={None: NAMESPACE})
    kind = MESSAGE_TYPES.get(notice.event, "Alert")
    _add(root, "identifier", identifier(notice, notice.event, part))
    _add(root, "sender", receiver.sender)
    _add(root, "sent", sent(notice))
    _add(root, "status", receiver.status)
    _add(root, "msgType", kind)
    _add(root, "source", "iotcore")
    _add(root, "scope", receiver.scope)
    if receiver.scope == "Restricted":
        _add(root, "restriction", receiver.restriction)
    if receiver.addresses:
        _add(root, "addresses", " ".join(f'"{one}"' if " " in one else one for one in receiver.addresses))
    if receiver.status == "Exercise":
        _add(root, "note", "Exercise: there is no fire")  # CAP 1.2 wants an exercise named in <note>
    if kind != "Alert":
        _add(root, "references", f"{receiver.sender},{identifier(notice, 'alarm')},{_time(_first_ms(notice))}")
    _add(root, "incidents", _token(notice.incident))
    for language, tag in LANGUAGES:
        root.append(_info(notice, receiver, language, tag))
    return root


def identifier(notice: Notice, event: str, part: int = 0) -> str:
    """Unique for each message about a fire, the same for each repeat."""
    return f"{_token(notice.incident)}.{event}" + (f".{part}" if part else "")


def sent(notice: Notice) -> str:
    """When this message came to be."""
    return _time(notice.made_ms or _first_ms(notice))


def _first_ms(notice: Notice) -> float:
    return notice.decided_ms or notice.occurred_ms


def _time(at_ms: float) -> str:
    return texts.moment(at_ms).isoformat(timespec="seconds")


def gravity(notice: Notice) -> tuple[str, str, str]:
    """Urgency, severity, certainty."""
    urgency, severity = GRAVITY[notice.severity]
    if severity == "Severe" and notice.risk_class == "very_high":
        severity = "Extreme"
    if notice.event == "restore":
        urgency = "Past"
    if notice.unconfirmed:
        return urgency, severity, "Possible"
    certain = (
        (notice.hazard in SEEN_BY_PEOPLE and not notice.delayed) or len(notice.points) > 1 or notice.owner_said == "confirmed"
    )
    return urgency, severity, "Observed" if certain else "Likely"


def _info(notice: Notice, receiver: CapReceiver, language: Language, tag: str) -> Any:
    info = etree.Element(f"{{{NAMESPACE}}}info")
    headline = texts.headline(notice, language)
    urgency, severity, certainty = gravity(notice)
    for name, text in (
        ("language", tag),
        ("category", "Fire"),
        ("event", headline or notice.event),
        ("urgency", urgency),
        ("severity", severity),
        ("certainty", certainty),
    ):
        _add(info, name, text)
    _pair(info, "eventCode", "SIA", sia_event.code(notice))
    _add(info, "onset", _time(notice.occurred_ms))
    _add(info, "senderName", receiver.sender_name)
    _add(info, "headline", f"{headline}. {notice.premises_name}"[:MAX_HEADLINE])
    _add(info, "description", "\n".join(f"{label}: {text}" for label, text in texts.lines(notice, language)))
    _add(info, "instruction", notice.hydrants)
    _add(info, "contact", "; ".join(texts.person(one, language) for one in notice.people))
    for name, text in _parameters(notice):
        _pair(info, "parameter", name, text)
    info.append(_area(notice, receiver))
    return info


def _parameters(notice: Notice) -> Iterator[tuple[str, str]]:
    """What a program wants to read without taking sentences apart."""
    yield "iotcore:hazard", notice.hazard
    yield "iotcore:account", notice.account
    yield "iotcore:premises", notice.premises
    yield "iotcore:zone", notice.zone
    yield "iotcore:device", notice.device
    yield "iotcore:point", notice.point
    yield "iotcore:reason", notice.reason
    if notice.delayed:
        yield "iotcore:delayed", "true"
    if notice.unconfirmed:
        yield "iotcore:unconfirmed", "true"


def _area(notice: Notice, receiver: CapReceiver) -> Any:
    area = etree.Element(f"{{{NAMESPACE}}}area")
    place = ", ".join(text for text in (notice.premises_name, notice.address, texts.where(notice)) if text)
    _add(area, "areaDesc", place or notice.premises or "?")
    if located(notice.latitude, notice.longitude):
        corners = polygon(notice.latitude, notice.longitude, receiver.radius_m) if receiver.area == "polygon" else ""
        if corners:
            _add(area, "polygon", corners)
        else:
            _add(area, "circle", f"{notice.latitude:.6f},{notice.longitude:.6f} {receiver.radius_m / 1000.0:.3f}")
    _pair(area, "geocode", "iotcore:premises", notice.premises)
    return area


def polygon(latitude: float, longitude: float, radius_m: float) -> str:
    """Eight corners around a place, closed: `lat,lon lat,lon …`; "" where the Earth is too crooked for one."""
    if abs(latitude) > ROUNDEST_DEG:
        return ""
    high = radius_m / METRES_PER_DEG
    wide = high / math.cos(math.radians(latitude))
    if abs(longitude) + wide > 180.0:  # noqa: PLR2004 - degrees, the date line
        return ""
    turns = [2 * math.pi * (corner % CORNERS) / CORNERS for corner in range(CORNERS + 1)]
    return " ".join(f"{latitude + high * math.cos(turn):.6f},{longitude + wide * math.sin(turn):.6f}" for turn in turns)


def _add(parent: Any, name: str, text: str) -> None:
    """A child, where there is something to say."""
    said = _FORBIDDEN.sub(" ", text).strip()
    if said:
        etree.SubElement(parent, f"{{{NAMESPACE}}}{name}").text = said


def _pair(parent: Any, name: str, key: str, text: str) -> None:
    said = _FORBIDDEN.sub(" ", text).strip()
    if said:
        pair = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
        etree.SubElement(pair, f"{{{NAMESPACE}}}valueName").text = key
        etree.SubElement(pair, f"{{{NAMESPACE}}}value").text = said


def _token(text: str) -> str:
    """Without spaces, commas, < and &, which CAP 1.2 forbids in identifiers."""
    return re.sub(r"[^\w.:-]", "_", text, flags=re.ASCII) or "_"
