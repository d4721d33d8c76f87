"""What we tell an alarm receiving centre that reads Contact ID (ADM-CID): event codes and the text of a notice. Pure.

    #acct|1111 01 015][I…]      qualifier 1 new, 3 restore; code; partition; zone

One block of extended data, because receivers exist that refuse a second one: the text, which says where as well. Source of the
codes: Ademco Contact ID (SIA DC-05).
"""

from __future__ import annotations

from iotcore.dispatch import sia_event
from iotcore.journal.records import Notice

CODES = {
    "smoke": "111",
    "heat": "114",
    "co": "112",  # combustion: the carbon monoxide of a fire
    "manual": "115",
    "flame": "117",
    "waterflow": "113",
    "fire": "110",
}
UNKNOWN_HAZARD = "110"  # fails open
SUPERVISORY = "200"
OUTAGES = {"disablement": "571", "walk": "607"}  # fire bypass, walk test mode
TESTS = ("604", "602")  # of a detector, of a path alone
TROUBLES = {"path": "350", "undelivered": "350", "battery": "302", "bad:battery": "302", "bad:": "380", "tamper": "380"}
ANY_TROUBLE = "373"  # fire loop
NEW, RESTORE = "1", "3"
MOST_PARTITIONS, MOST_ZONES = 100, 1000  # two and three decimal digits


def code(notice: Notice) -> str:
    """Qualifier and event code."""
    qualifier = RESTORE if notice.event == "restore" else NEW
    if notice.outage:
        return qualifier + OUTAGES[notice.outage]
    if sia_event.is_test(notice):
        return qualifier + TESTS[not notice.device]
    if notice.severity == "trouble":
        return qualifier + sia_event.chosen(TROUBLES, notice.reason, ANY_TROUBLE)
    if notice.severity == "supervisory":
        return qualifier + SUPERVISORY
    return qualifier + CODES.get(notice.hazard, UNKNOWN_HAZARD)


def content(notice: Notice, more: sia_event.Amount = "text") -> bytes:
    """What stands behind the first `[`, without the timestamp. Zone numbers that three digits cannot say are 0: "look at all"."""
    zone = notice.zone_number if 0 <= notice.zone_number < MOST_ZONES else 0
    event = f"#{sia_event.account(notice)}|{code(notice)} {zone % MOST_PARTITIONS:02d} {zone:03d}]"
    return (event + sia_event.extended(notice, more)).encode("ascii")
