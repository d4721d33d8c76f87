"""`iotcore token …` and `iotcore enrolment …` as their users run them: the maker's list, binding, tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from iotcore.cli import main
from iotcore.commands import units
from iotcore.errors import ConfigError

MODEL = "iotcore-smoke-heat"
CITY = {
    "premises": [{"id": "p1", "name": "Trường", "address": "1", "latitude": 19.8, "longitude": 105.7, "account": "a001"}],
    "zones": [{"id": "z1", "premises": "p1", "number": 1, "floor": "2", "name": "Bếp"}],
    "devices": [{"id": f"sd-{n}", "title": f"{n}", "model": MODEL, "premises": "p1", "zone": "z1"} for n in (1, 2)],
}


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Office:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "iotcore.toml").write_text(f'data = "{folder / "data"}"\n')
        (folder / "city.json").write_text(json.dumps(CITY))
        self.says("import", str(folder / "city.json"))

    def says(self, *arguments: str, code: int | str = 0) -> str:
        """Run a command to its end; it must end so."""
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--config", str(self.folder / "iotcore.toml")])
        said = self._capsys.readouterr().out.strip()
        if isinstance(code, str):
            assert code in str(ended.value.code)
        else:
            assert ended.value.code == code, said
        return said

    def lot(self, *lines: str, name: str = "lot7.csv") -> Path:
        (self.folder / name).write_text("\n".join(lines) + "\n")
        return self.folder / name


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, capsys)


def test_a_maker_s_list_is_checked_kept_once_and_bound(office: Office) -> None:
    file = str(office.lot("model,serial,secret", f"{MODEL},SN1,{sha256('a')}", f"{MODEL},SN2,"))
    assert office.says("token", "batch", file, "--dry-run") == "batch lot7: 2 would be new, 0 known before"
    assert office.says("token", "units") == ""
    assert office.says("token", "batch", file) == "batch lot7: 2 new, 0 known before"
    assert office.says("token", "batch", file) == "batch lot7: 0 new, 2 known before"
    assert office.says("token", "bind", "SN1", "sd-1") == "unit SN1 is sd-1: it may enrol now"
    assert "devices: 0 added, 0 changed, 2 as they were" in office.says("import", str(office.folder / "city.json"))
    office.says("token", "bind", "SN1", "sd-2", code="first: iotcore token release SN1")
    office.says("token", "bind", "SN2", "sd-1", code="first: iotcore token release SN1")
    rows = json.loads(office.says("token", "units", "-o", "json"))
    assert [(row["serial"], row["state"], row["device"]) for row in rows] == [("SN1", "bound", "sd-1"), ("SN2", "known", "")]
    assert "sd-1 waits for another" in office.says("token", "release", "SN1")
    assert office.says("token", "revoke", "--unit", "SN2") == "unit SN2 may not enrol any more"
    office.says("token", "bind", "SN2", "sd-1", code="may not enrol any more")
    other = str(office.lot("model;serial;secret", f"{MODEL};SN1;{sha256('b')}", name="lot8.csv"))
    office.says("token", "batch", other, code="is known of batch 'lot7'")
    office.says("token", "batch", other, "--batch", "lot7", code="is known with another secret")
    assert "SN1" not in office.says("token", "units", "--batch", "lot8")


def test_tokens_are_made_listed_and_taken_back(office: Office) -> None:
    first, second = office.says("token", "create", "sd-1", "sd-2", "--hours", "2").split()
    assert len({first, second}) == 2
    rows = json.loads(office.says("token", "list", "-o", "json"))
    assert {(row["device"], row["used"], row["state"]) for row in rows} == {("sd-1", "0/1", "open"), ("sd-2", "0/1", "open")}
    assert first not in json.dumps(rows)
    (one,) = json.loads(office.says("token", "list", "--device", "sd-1", "-o", "json"))
    assert office.says("token", "revoke", one["id"]) == "the token of sd-1 is worth nothing any more"
    office.says("token", "revoke", one["id"], code="used")
    assert "sd-1" not in office.says("token", "list")
    assert "state=revoked" in office.says("token", "list", "--all", "--device", "sd-1")
    office.says("token", "create", code="name devices, a group with --group, or --batch")
    office.says("token", "create", "nobody", code="unknown_device")
    office.says("token", "create", "--batch", "lot7", "--uses", "3", code="unknown_batch")
    office.lot("model,serial,secret", f"{MODEL},SN1,")
    office.says("token", "batch", str(office.folder / "lot7.csv"))
    assert len(office.says("token", "create", "--batch", "lot7", "--uses", "3", "--approval")) >= 22
    (whole,) = json.loads(office.says("token", "list", "--batch", "lot7", "-o", "json"))
    assert (whole["used"], whole["approval"]) == ("0/3", True)


def test_approving_what_is_not_there_is_one_clear_line(office: Office) -> None:
    assert office.says("enrolment", "list") == ""
    office.says("enrolment", "approve", "7", code="there is no request 7")
    office.says("enrolment", "reject", "7", "--reason", "not ours", code="there is no request 7")


WRONG = {
    "other columns": ("serial,secret\nSN1,\n", "line 1", "names the columns serial, secret"),
    "no units": ("model,serial,secret\n", "", "holds no unit"),
    "an unknown model": (f"model,serial,secret\nno-such,SN1,{sha256('a')}\n", "line 2", "no spec describes the model 'no-such'"),
    "a serial with a slash": (f"model,serial,secret\n{MODEL},SN/1,\n", "line 2", "has other characters"),
    "a secret in clear": (f"model,serial,secret\n{MODEL},SN1,hunter2\n", "line 2", "never the secrets themselves"),
    "a serial twice": (f"model,serial,secret\n{MODEL},SN1,\n{MODEL},SN1,\n", "line 3", "the same unit stands in line 2"),
    "a secret twice": (
        f"model,serial,secret\n{MODEL},SN1,{sha256('a')}\n{MODEL},SN2,{sha256('a')}\n",
        "line 3",
        "the same secret stands in line 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_list_is_refused_whole_line_by_line(tmp_path: Path, case: str) -> None:
    text, path, reason = WRONG[case]
    (tmp_path / "lot.csv").write_text(text)
    with pytest.raises(ConfigError) as refused:
        units.read(tmp_path / "lot.csv", {MODEL})
    (problem,) = refused.value.problems
    assert problem.path == path
    assert reason in problem.reason


def test_all_wrong_lines_are_told_at_once_and_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    lines = ["Model;Serial;Secret", f"{MODEL};SN1;x", f"{MODEL};SN 2;", f"{MODEL};SN3;"]
    (tmp_path / "lot.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    with pytest.raises(ConfigError) as refused:
        units.read(tmp_path / "lot.csv", {MODEL})
    assert [problem.path for problem in refused.value.problems] == ["line 2", "line 3"]
    (tmp_path / "lot.csv").write_bytes(b"model,serial,secret\n\xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        units.read(tmp_path / "lot.csv", {MODEL})
    with pytest.raises(ConfigError, match="cannot be read"):
        units.read(tmp_path / "none.csv", {MODEL})
