"""The simulated city: areas, premises, zones and devices of a Vietnamese provincial town, as the registry's import document.

Deterministic by seed. Streets, wards and kinds of building are those of Thanh Hóa; house numbers, positions, account numbers and
who lies in which ward are drawn, not looked up. Keys are those of the registry's city document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

CENTRE = (19.807, 105.776)  # WGS 84 degrees, Thanh Hóa
SPREAD_DEGREES = 0.018  # about 2 km
FIRST_ACCOUNT = 0x1A01
AIR_STATIONS = 10
WATER_STATIONS = 10
SIGNALS = 188  # signalised nodes of a large Vietnamese city centre
GATEWAY = "modbus-1"
DETECTOR_MODEL, CALL_POINT_MODEL = "iotcore-smoke-heat", "iotcore-call-point"
AIR_MODEL, WATER_MODEL = "vaisala-aqt530", "endress-liquiline-cm44x"
SIGNAL_MODEL, GATEWAY_MODEL = "iotcore-mqtt-signal", "iotcore-modbus-gateway"
FIRST_MODBUS_PORT = 15_020

STREETS = (
    "Lê Lợi", "Trần Phú", "Quang Trung", "Nguyễn Trãi", "Lê Hoàn", "Tống Duy Tân", "Phan Chu Trinh", "Hạc Thành",
    "Đinh Công Tráng", "Trường Thi", "Lê Quý Đôn", "Hàng Đồng", "Hàng Than", "Nguyễn Du", "Cao Thắng", "Bà Triệu",
    "Hàn Thuyên", "Dương Đình Nghệ", "Lê Hữu Lập", "Minh Khai", "Đội Cung", "Tô Vĩnh Diện", "Lê Lai", "Hải Thượng Lãn Ông",
)  # fmt: skip

PROVINCE, CITY = "thanh-hoa", "tp-thanh-hoa"
WARDS = {
    "lam-son": "Phường Lam Sơn", "dien-bien": "Phường Điện Biên", "truong-thi": "Phường Trường Thi", "ba-dinh": "Phường Ba Đình",
    "ngoc-trao": "Phường Ngọc Trạo", "dong-tho": "Phường Đông Thọ",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Building:
    """A kind of premises: its name, the rooms that its zones are, and whether a fire service calls it a key site."""

    name: str
    rooms: tuple[str, ...]
    storeys: int
    key_site: bool = False


BUILDINGS = (
    Building("Chợ Vườn Hoa", ("Khu vải sợi", "Khu thực phẩm", "Khu hàng khô", "Ban quản lý"), 2, key_site=True),
    Building("Bệnh viện Đa khoa tỉnh", ("Khoa Cấp cứu", "Khoa Nhi", "Kho dược", "Nhà bếp"), 4, key_site=True),
    Building("Bệnh viện Phụ sản", ("Phòng sinh", "Khoa Sơ sinh", "Hành chính"), 3, key_site=True),
    Building("Trường THPT chuyên Lam Sơn", ("Phòng học", "Phòng thí nghiệm", "Thư viện"), 3, key_site=True),
    Building("Trường Tiểu học Điện Biên", ("Phòng học", "Bếp ăn bán trú"), 2, key_site=True),
    Building("Trường Mầm non Trường Thi", ("Phòng ngủ trẻ", "Bếp ăn"), 2, key_site=True),
    Building("Đại học Hồng Đức", ("Giảng đường", "Ký túc xá", "Phòng máy tính"), 4, key_site=True),
    Building("Ga Thanh Hóa", ("Phòng chờ", "Kho hàng"), 1, key_site=True),
    Building("Thư viện tỉnh", ("Kho sách", "Phòng đọc"), 3, key_site=True),
    Building("Bảo tàng tỉnh", ("Phòng trưng bày", "Kho hiện vật"), 2, key_site=True),
    Building("Nhà hát Lam Sơn", ("Khán phòng", "Hậu đài"), 2, key_site=True),
    Building("Bưu điện trung tâm", ("Quầy giao dịch", "Kho bưu kiện"), 2),
    Building("Chung cư cao tầng A", ("Hầm để xe", "Hành lang", "Căn hộ mẫu", "Phòng kỹ thuật điện"), 9, key_site=True),
    Building("Chung cư cao tầng B", ("Hầm để xe", "Hành lang", "Phòng sinh hoạt chung"), 9, key_site=True),
    Building("Nhà ở xã hội khu Bắc", ("Hành lang", "Hầm để xe", "Phòng kỹ thuật điện"), 5),
    Building("Nhà ống kết hợp cửa hàng tạp hóa", ("Cửa hàng", "Phòng ngủ"), 4),
    Building("Nhà ống kết hợp xưởng may", ("Xưởng may", "Kho vải"), 3),
    Building("Nhà trọ công nhân", ("Hành lang", "Bếp chung"), 3),
    Building("Khách sạn trung tâm", ("Sảnh", "Hành lang phòng nghỉ", "Nhà bếp"), 7, key_site=True),
    Building("Quán karaoke", ("Phòng hát", "Lễ tân"), 4, key_site=True),
    Building("Siêu thị khu Đông", ("Quầy hàng", "Kho hàng", "Khu ăn uống"), 2, key_site=True),
    Building("Nhà máy dệt may", ("Xưởng cắt", "Xưởng may", "Kho thành phẩm"), 1, key_site=True),
    Building("Kho hóa chất nông nghiệp", ("Kho chính", "Phòng bảo vệ"), 1, key_site=True),
    Building("Trạm xăng dầu cửa ngõ Bắc", ("Cửa hàng", "Phòng kỹ thuật"), 1, key_site=True),
)
AIR_SITES = (
    "Quảng trường Lam Sơn", "Công viên Hội An", "Khu công nghiệp Lễ Môn", "Ngã tư Bờ Hồ", "Cầu Hàm Rồng", "Bến xe phía Bắc",
    "Đại học Hồng Đức", "Khu công nghiệp Tây Bắc Ga", "Cầu Đống", "Phường Quảng Thắng",
)  # fmt: skip
WATER_SITES = (
    "Sông Mã tại cầu Hàm Rồng", "Sông Mã tại cầu Nguyệt Viên", "Sông Hạc", "Kênh Bắc", "Hồ Đồng Chiệc", "Sông Thọ Hạc",
    "Hồ Thành", "Kênh Vinh", "Nhà máy nước Hàm Rồng", "Hồ Kim Quy",
)  # fmt: skip


def modbus_loopback(device: str) -> str:
    """A fixed port of this machine for each Modbus unit, where a caller does not say otherwise."""
    index = [*air_stations(), *water_stations()].index(device)
    return f"tcp://127.0.0.1:{FIRST_MODBUS_PORT + index}?device_id=1"


def air_stations() -> tuple[str, ...]:
    """Ids of the air stations, aq-01 and on."""
    return tuple(f"aq-{n:02}" for n in range(1, AIR_STATIONS + 1))


def water_stations() -> tuple[str, ...]:
    """Ids of the water stations, wq-01 and on."""
    return tuple(f"wq-{n:02}" for n in range(1, WATER_STATIONS + 1))


def document(seed: int = 1, connection: Callable[[str], str] = modbus_loopback) -> dict[str, list[dict[str, Any]]]:
    """The city as plain data, ready for the registry; the same seed gives the same city.

    `connection` tells where a Modbus unit listens, by its id: servers of a test stand on ports that only they know.
    """
    random = Random(seed)
    premises: list[dict[str, Any]] = []
    zones: list[dict[str, Any]] = []
    devices: list[dict[str, Any]] = []
    streets = random.sample(STREETS, len(BUILDINGS))
    numbers = count(1)
    for i, (building, street) in enumerate(zip(BUILDINGS, streets, strict=True)):
        site = _premises(i, building, street, random)
        premises.append(site)
        here = _zones(site["id"], building, random)
        zones += here
        for zone in here:
            devices += [_detector(next(numbers), site, zone) for _ in range(random.choice((1, 1, 2)))]
        devices.append(_call_point(i + 1, site, here[0]))
    devices.append({"id": GATEWAY, "title": "Cổng Modbus trung tâm", "model": GATEWAY_MODEL})
    for ids, sites, model, what in (
        (air_stations(), AIR_SITES, AIR_MODEL, "Trạm không khí"),
        (water_stations(), WATER_SITES, WATER_MODEL, "Trạm nước"),
    ):
        for device, place in zip(ids, sites, strict=True):
            unit = {"id": device, "title": f"{what} {place}", "model": model, "parent": GATEWAY, "connection": connection(device)}
            devices.append(unit)
    devices += [_signal(n, random) for n in range(1, SIGNALS + 1)]
    return {"areas": _areas(), "premises": premises, "zones": zones, "devices": devices}


def part(
    whole: Mapping[str, Sequence[Mapping[str, Any]]], *, premises: int, air: int, water: int, signals: int
) -> dict[str, list[dict[str, Any]]]:
    """The first so many premises with their zones and detectors, stations and junctions of a city, and the gateway."""
    sites = [dict(one) for one in whole["premises"]][:premises]
    kept = {one["id"] for one in sites}
    left = {AIR_MODEL: air, WATER_MODEL: water, SIGNAL_MODEL: signals, GATEWAY_MODEL: 1}
    devices = []
    for one in whole["devices"]:
        model = str(one["model"])
        if one.get("premises") in kept or left.get(model, 0) > 0:
            left[model] = left.get(model, 0) - 1
            devices.append(dict(one))
    zones = [dict(one) for one in whole["zones"] if one["premises"] in kept]
    return {"areas": [dict(one) for one in whole["areas"]], "premises": sites, "zones": zones, "devices": devices}


def _areas() -> list[dict[str, Any]]:
    return [
        {"id": PROVINCE, "kind": "province", "name": "Tỉnh Thanh Hóa"},
        {"id": CITY, "kind": "city", "name": "Thành phố Thanh Hóa", "parent": PROVINCE},
        *({"id": ward, "kind": "ward", "name": name, "parent": CITY} for ward, name in WARDS.items()),
    ]


def _premises(index: int, building: Building, street: str, random: Random) -> dict[str, Any]:
    return {
        "id": f"p-{index + 1:03}",
        "name": building.name,
        "address": f"Số {random.randint(1, 400)} đường {street}, thành phố Thanh Hóa",
        "latitude": round(CENTRE[0] + random.uniform(-SPREAD_DEGREES, SPREAD_DEGREES), 6),
        "longitude": round(CENTRE[1] + random.uniform(-SPREAD_DEGREES, SPREAD_DEGREES), 6),
        "account": f"{FIRST_ACCOUNT + index:04X}",
        "key_site": building.key_site,
        "area": tuple(WARDS)[index % len(WARDS)],
    }


def _zones(premises: str, building: Building, random: Random) -> list[dict[str, Any]]:
    """One zone a room; a basement garage lies below, the other rooms anywhere above."""
    return [
        {
            "id": f"{premises}-z{number}",
            "premises": premises,
            "number": number,
            "floor": "Tầng hầm" if room.startswith("Hầm") else f"Tầng {random.randint(1, building.storeys)}",
            "name": room,
        }
        for number, room in enumerate(building.rooms, start=1)
    ]


def _detector(number: int, premises: dict[str, Any], zone: dict[str, Any]) -> dict[str, Any]:
    title = f"Đầu báo khói nhiệt {zone['name']}, {zone['floor']}"
    return {"id": f"sd-{number:04}", "title": title, "model": DETECTOR_MODEL, "premises": premises["id"], "zone": zone["id"]}


def _call_point(number: int, premises: dict[str, Any], zone: dict[str, Any]) -> dict[str, Any]:
    title = f"Nút nhấn báo cháy {zone['name']}, {zone['floor']}"
    return {"id": f"cp-{number:03}", "title": title, "model": CALL_POINT_MODEL, "premises": premises["id"], "zone": zone["id"]}


def _signal(number: int, random: Random) -> dict[str, Any]:
    one, other = random.sample(STREETS, 2)
    return {"id": f"tl-{number:03}", "title": f"Đèn tín hiệu {number:03}: {one} và {other}", "model": SIGNAL_MODEL}
