"""Tables of people: what a CSV file or a workbook may look like, what each cell becomes, and what is refused and why."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.cli_import import KINDS as CLI_KINDS
from iotcore.clock import ManualClock
from iotcore.commands.progress import Progress
from iotcore.errors import ConfigError
from iotcore.registry.city import DeviceEntry
from iotcore.registry.draft import Draft
from iotcore.registry.kinds import KINDS
from iotcore.registry.sheets import table, words, workbook, write
from iotcore.registry.sheets.cells import Cell, Formula, Unfit, value
from iotcore.registry.sheets.read import read
from tests.unit.test_house import ROOT

HEADER = "id,title,model,premises,zone,serial,latitude,longitude,labels"
DEVICE = {
    "id": "d1", "title": "Đầu báo", "model": "smoke", "premises": "p1", "zone": "z1", "serial": "0042", "latitude": 19.8,
    "longitude": 105.77, "labels": {"line": "2"},
}  # fmt: skip
ROW = "d1,Đầu báo,smoke,p1,z1,0042,19.8,105.77,line=2"


def types(kind: str) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(KINDS[kind].entry)}


def drafted(folder: Path, content: str | bytes, name: str = "devices.csv", kind: str = "") -> Draft:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, kind)


def booked(folder: Path, rows: Sequence[Sequence[Any]], title: str = "devices") -> Path:
    """A workbook as another program writes it."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(row)
    book.save(folder / "book.xlsx")
    return folder / "book.xlsx"


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\n{ROW}\n",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\n\n,,,,,,,,\n{ROW}",
        f"{HEADER}\n{ROW}\n".replace(",", ";").replace(".", ","),
        f"{HEADER}\n{ROW}\n".replace(",", "\t").encode("utf-16"),
        f"sep=;\r\n{HEADER}\r\n{ROW}\r\n".replace(",", ";"),
        "Mã,Tên thiết bị,MẪU,Cơ sở,Vùng báo cháy,Số sê-ri,Vĩ độ,Kinh độ,Nhãn\n" + ROW,
        "ma,ten,kieu,co so,khu,so may,vi do,kinh do,nhan\n" + ROW,
        f"{HEADER}\n{ROW}\n".replace("Đầu báo", "Đa\u0302\u0300u ba\u0301o"),  # decomposed
        f'{HEADER}\n{ROW.replace("Đầu báo", chr(34) + " Đầu báo " + chr(34))}\n',
        f"rejected_because,{HEADER}\nno zone,{ROW}\n",
    ],
    ids=["plain", "mark", "empty rows", "semicolons and decimal commas", "utf-16 tabs", "sep=", "Vietnamese", "no accents",
         "decomposed", "quoted", "mended"],
)  # fmt: skip
def test_the_same_table_in_every_dress_is_the_same_entry(tmp_path: Path, content: str | bytes) -> None:
    draft = drafted(tmp_path, content)
    assert [str(fault) for fault in draft.faults] == []
    assert draft.entries["devices"] == [DEVICE]


def test_rows_are_numbered_as_a_spreadsheet_numbers_them(tmp_path: Path) -> None:
    draft = drafted(tmp_path, f"{HEADER}\n\n{ROW.replace('Đầu báo', chr(34) + 'two' + chr(10) + 'lines' + chr(34))}\nd2\n")
    assert draft.rows["devices"] == [3]
    assert draft.faults[0].row == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,colour\nx,red\n", r"devices row 1: 'colour' is no column of devices; there are: id, title"),
        ("id,mã,title\n1,2,3\n", "'mã' is a second column for id"),
        ("title,model\nx,y\n", "no column id"),
        (f"{HEADER}\nd1,\xff".encode("latin-1"), r"line 2: is not UTF-8; in Excel: Save as, CSV UTF-8"),
        (f'{HEADER}\n"d1,x\n', "after row 1: .* a quotation mark that does not close"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_whole(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        drafted(tmp_path, content)


def test_what_a_csv_holds_is_in_its_name_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not say what it holds; add --kind areas\|premises"):
        drafted(tmp_path, f"{HEADER}\n{ROW}\n", "new.csv")
    for name, kind in (("new.csv", "devices"), ("thiết bị 2026.csv", ""), ("devices.rejected.csv", "")):
        assert drafted(tmp_path, f"{HEADER}\n{ROW}\n", name, kind).count == 1
    with pytest.raises(ConfigError, match="does not say"):
        drafted(tmp_path, f"{HEADER}\n{ROW}\n", "zones and devices.csv")
    with pytest.raises(ConfigError, match=r"neither of \.csv"):
        drafted(tmp_path, "", "devices.ods")


def test_every_fault_says_its_row_column_and_value(tmp_path: Path) -> None:
    content = f"{HEADER}\n{ROW}\nd2,=1+1,smoke,p1,,1.2E+15,north,,x\nd3,Khói,smoke,p1,,,,,,,extra\nd4,Khói\n"
    draft = drafted(tmp_path, content)
    assert [(fault.row, fault.column, fault.value) for fault in draft.faults] == [
        (3, "title", "=1+1"),
        (3, "serial", "1.2E+15"),
        (3, "latitude", "north"),
        (3, "labels", "x"),
        (4, "", "extra"),
        (5, "", ""),  # what a row that is cut off lacks is not counted up
    ]
    assert draft.refused["devices"] == {3: "d2", 4: "d3", 5: "d4"}


TEXT, NUMBER, WHOLE = types("devices")["title"], types("premises")["latitude"], types("zones")["number"]
SERIAL, ACCOUNT, KEY_SITE, RISK = (
    types("devices")["serial"], types("premises")["account"], types("premises")["key_site"], types("premises")["risk_class"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "of", "becomes"),
    [
        (1001, ACCOUNT, "1001"), (1001.0, ACCOUNT, "1001"), ("0101", ACCOUNT, "0101"), (" a01 ", ACCOUNT, "a01"),
        ("3", WHOLE, 3), ("3.0", WHOLE, 3), (3.0, WHOLE, 3), ("19.8", NUMBER, 19.8), ("19,8", NUMBER, 19.8),
        ("19,807", NUMBER, 19.807), ("−19.8", NUMBER, -19.8), (19, NUMBER, 19.0),
        ("có", KEY_SITE, True), ("Không", KEY_SITE, False), ("TRUE", KEY_SITE, True), (1, KEY_SITE, True), ("x", KEY_SITE, True),
        ("rất cao", RISK, "very_high"), ("High", RISK, "high"), ("very high", RISK, "very_high"),
        ("1.5", types("zones")["floor"], "1.5"), (1.5, types("zones")["floor"], "1.5"),
        ("a=1; b = two words;", types("devices")["labels"], {"a": "1", "b": "two words"}),
        ('{"a":"1;2"}', types("devices")["labels"], {"a": "1;2"}),
    ],
)  # fmt: skip
def test_a_cell_becomes_what_was_meant(cell: Cell, of: Any, becomes: Any) -> None:
    made = value(cell, of)
    assert made == becomes
    assert type(made) is type(becomes)


@pytest.mark.parametrize(
    ("cell", "of", "said"),
    [
        ("1001.0", ACCOUNT, "has made a number of it; format the column as text"),
        ("1.23E+15", SERIAL, "shortened a long number"),
        (1.2345678901234567e18, SERIAL, "too long for a spreadsheet"),
        (dt.datetime(2026, 2, 1, tzinfo=dt.UTC), TEXT, "made a date or time of it"),
        (Formula("=A1"), TEXT, "a formula"),
        ("12,345", types("zones")["number"], "no whole number"),
        ("1.234,5", NUMBER, "no number"),
        ("north", NUMBER, "no number"),
        ("maybe", KEY_SITE, "neither yes nor no"),
        ("dire", RISK, "one of: high, low, medium, very_high"),
        ("a\x00b", TEXT, r"U\+0000"),
        ("a=1; a=2", types("devices")["labels"], "each is name=value, once"),
        (None, TEXT, "must be given"),
    ],
)
def test_what_cannot_be_told_for_certain_is_refused_with_what_to_do(cell: Cell, of: Any, said: str) -> None:
    with pytest.raises(Unfit, match=said):
        value(cell, of)


def test_a_comma_that_may_part_thousands_is_refused_where_the_number_may_be_so_large() -> None:
    with pytest.raises(Unfit, match=r"may be 1\.234 or 1234"):
        value("1,234", float)
    assert value("105,123", NUMBER) == 105.123  # no longitude is 105,123 degrees


def test_zeros_that_a_spreadsheet_dropped_are_told(tmp_path: Path) -> None:
    header = "id,name,address,latitude,longitude,account\n"
    rows = "".join(f"p{i},Chợ,1 Lê Lợi,19.8,105.7,{account}\n" for i, account in enumerate(["1001", "1002", "101"]))
    draft = drafted(tmp_path, header + rows, "premises.csv")
    (told,) = draft.told
    assert told.startswith("premises, account: 1 numbers are shorter than the others (the first in row 4): if they began with")
    assert drafted(tmp_path, header + rows.replace(",101\n", ",0101\n"), "premises.csv").told == []


def test_a_workbook_of_another_program_is_read_by_its_sheets(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["mã", "tên", "mẫu", "số sê-ri", "vĩ độ", "kinh độ"],
        ["d1", "Khói", "smoke", 42, 19.8, 105.77],
        [],
        ["d2", "K", "s"],
    ]
    path = booked(tmp_path, rows, "Thiết bị")
    draft = read(path)
    assert draft.entries["devices"][0] == {
        "id": "d1", "title": "Khói", "model": "smoke", "serial": "42", "latitude": 19.8, "longitude": 105.77,
    }  # fmt: skip
    assert draft.rows["devices"] == [2, 4]
    assert "cells are numbers (the first in row 2)" in draft.told[0]
    assert read(booked(tmp_path, rows, "Sheet1"), "devices").count == 2
    with pytest.raises(ConfigError, match=r"has no sheet called areas or premises .*; it has: Sheet1"):
        read(booked(tmp_path, rows, "Sheet1"))


def test_leading_zeros_that_a_workbook_shows_are_kept(tmp_path: Path) -> None:
    path = booked(tmp_path, [["id", "title", "model", "serial"], ["d1", "Khói", "smoke", 42]])
    book = openpyxl.load_workbook(path)
    book["devices"]["D2"].number_format = "0000"
    book.save(path)
    assert read(path).entries["devices"][0]["serial"] == "0042"


def test_formulas_dates_and_errors_of_a_workbook_are_refused_each_in_its_place(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["id", "title", "model", "serial"], ["d1", "=A2", dt.datetime(2026, 2, 1), "#REF!"]]  # noqa: DTZ001 as a sheet has it
    faults = read(booked(tmp_path, rows)).faults
    assert [(fault.column, fault.reason.split(";")[0]) for fault in faults] == [
        ("title", "a formula"),
        ("model", "the spreadsheet has made a date or time of it"),
        ("serial", "the spreadsheet shows an error there"),
    ]


def test_merged_cells_are_refused_by_name(tmp_path: Path) -> None:
    path = booked(tmp_path, [["id", "title", "model"], ["d1", "Khói", "smoke"], ["d2", None, "smoke"]])
    book = openpyxl.load_workbook(path)
    book["devices"].merge_cells("B2:B3")
    book.save(path)
    with pytest.raises(ConfigError, match=r"devices: merged cells \(B2:B3\)"):
        read(path)


def rezipped(path: Path, changes: dict[str, bytes]) -> Path:
    """The workbook with other content of some parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_hostile_workbooks_are_refused_before_they_take_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = booked(tmp_path, [["id", "title", "model"], ["d1", "Khói", "smoke"]])
    sheet = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(path) as archive:
        content = archive.read(sheet)
    entity = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    rezipped(path, {sheet: content.replace(b"<worksheet", entity + b"<worksheet", 1)})
    with pytest.raises(ConfigError, match="document type definition"):
        read(path)
    rezipped(path, {sheet: content, "xl/media/zeros": b"\0" * 3_000_000})
    monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", 2_000_000)
    with pytest.raises(ConfigError, match="unpacks to 3 MB of at most 2"):
        read(path)
    (tmp_path / "old.xlsx").write_bytes(workbook.OLD + b"\0" * 100)
    with pytest.raises(ConfigError, match=r"an old workbook \(\.xls\), or one with a password"):
        read(tmp_path / "old.xlsx")
    (tmp_path / "no.xlsx").write_bytes(b"PK\x03\x04 nothing of the kind")
    with pytest.raises(ConfigError, match="is no workbook that can be read"):
        read(tmp_path / "no.xlsx")


def test_what_a_sheet_says_of_its_size_is_not_believed(tmp_path: Path) -> None:
    path = booked(tmp_path, [["id", "title", "model"], ["d1", "Khói", "smoke"]])
    sheet = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(path) as archive:
        content = archive.read(sheet)
    rezipped(path, {sheet: content.replace(b'ref="A1:C2"', b'ref="A1:XFD1048576"')})
    assert read(path).count == 1
    rezipped(path, {sheet: content.replace(b'r="C2"', b'r="XFD2"')})
    with pytest.raises(ConfigError, match=f"devices row 2: more than {table.MAX_COLUMNS} columns"):
        read(path)


def test_files_and_tables_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    with pytest.raises(ConfigError, match="more than 3 rows: split it"):
        drafted(tmp_path, f"{HEADER}\n" + f"{ROW}\n" * 3)
    monkeypatch.setattr(table, "MAX_FILE_BYTES", 10)
    with pytest.raises(ConfigError, match="MB of at most"):
        drafted(tmp_path, f"{HEADER}\n{ROW}\n")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "devices-none.csv")


SIGNS = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Cn"], blacklist_characters="\ufeff")).map(
    lambda text: unicodedata.normalize("NFC", text).strip()
)
WORDS = st.one_of(
    SIGNS, st.sampled_from(["=1+1", "'=1", "''+1", "-", "@x", "1E+10", "1.0", "0012", "a;b", 'a"b', "a,b", "TRUE", "{"])
)


@pytest.mark.parametrize("name", ["devices.csv", "book.xlsx"])
@settings(max_examples=30, deadline=None)
@given(title=WORDS.filter(bool), location=WORDS, labels=st.dictionaries(st.sampled_from("abc"), WORDS), place=st.floats(-90, 90))
def test_any_entry_comes_back_from_a_file(name: str, title: str, location: str, labels: dict[str, str], place: float) -> None:
    entry = {"id": "d1", "title": title, "model": "smoke", "location": location, "latitude": place, "labels": labels}
    whole = msgspec.to_builtins(msgspec.convert(entry, DeviceEntry))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with path.open("wb") as file:
            write.export(file, path, {"devices": [whole]})
        draft = read(path)
    assert (draft.faults, draft.entries["devices"]) == ([], [whole])


def test_the_words_of_people_name_one_field_each() -> None:
    assert tuple(KINDS) == CLI_KINDS == tuple(words.SHEETS)
    for kind, described in KINDS.items():
        assert set(words.COLUMNS[kind]) <= set(described.fields)
        said = [
            (words.fold(word), field)
            for field in described.fields
            for word in (field, *words.COLUMNS[kind].get(field, ()), *words.EVERYWHERE.get(field, ()))
        ]
        assert len({word for word, _ in said}) == len(set(said)), kind
        assert dict(said).items() == words.columns(kind).items()


def test_the_page_says_the_columns_of_each_kind_and_the_limits() -> None:
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", page, re.MULTILINE))
    for kind, described in KINDS.items():
        fields = msgspec.structs.fields(described.entry)
        needed, optional = ([one.name for one in fields if one.required == wanted] for wanted in (True, False))
        said = re.sub(r" \(.*?\)", "", rows[kind]).split(" |")
        assert [part.replace(",", "").split() for part in said] == [needed, optional]
    sizes = f"{table.MAX_FILE_BYTES // 10**6} MB a file, {table.MAX_UNPACKED_BYTES // 10**9} GB unpacked"
    assert f"{sizes}, {table.MAX_ROWS:,} rows and {table.MAX_COLUMNS} columns" in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"devices": [{"id": "d1", "latitude": NaN}]}', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "expected a table, got list"),
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        drafted(tmp_path, content, "city.json")


def test_a_document_is_tidied_as_a_table_is(tmp_path: Path) -> None:
    entries = [{"id": " d1 ", "title": "Đa\u0302\u0300u"}, {"id": "d2", "labels": {"a": "x\u0000"}}, 7]
    draft = drafted(tmp_path, json.dumps({"devices": entries}), "city.json")
    assert draft.entries["devices"] == [{"id": "d1", "title": "Đầu"}]
    assert [str(fault) for fault in draft.faults] == [
        "devices[1].labels: holds the invisible character U+0000; remove it",
        "devices[2] is '7': expected a table, got int",
    ]


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_not_said_at_each_step() -> None:
    clock, stream = ManualClock(), Terminal()
    progress = Progress(stream, clock)
    progress.phase("storing")
    for done in range(1, 101):
        clock.advance(0.01)
        progress.told(done, 100)
    progress.end()
    said = stream.getvalue().split("\r\x1b[K")[1:]
    assert said[0] == "storing"
    assert said[-1] == "storing 100 %, 100 of 100 rows, 100 rows/s\n"
    assert len(said) <= 7  # five times a second
    silent = io.StringIO()
    Progress(silent, clock).told(1, 1)
    assert silent.getvalue() == ""


def test_an_export_guards_against_computing_and_a_workbook_keeps_text_text(tmp_path: Path) -> None:
    entry = {**DEVICE, "title": "=HYPERLINK(1)", "zone": "@z", "serial": "0042", "labels": {"a": "+1; -2"}}
    for name in ("devices.csv", "book.xlsx"):
        with (tmp_path / name).open("wb") as file:
            write.export(file, tmp_path / name, {"devices": [entry | {"longitude": -105.5}]})
    text = (tmp_path / "devices.csv").read_text(encoding="utf-8-sig")
    assert "'=HYPERLINK(1)" in text
    assert ",'@z," in text
    assert ",-105.5," in text  # a number computes nothing
    cell = openpyxl.load_workbook(tmp_path / "book.xlsx")["devices"]["B2"]
    assert (cell.value, cell.data_type, cell.number_format) == ("=HYPERLINK(1)", "s", "@")
