"""`iotcore secret`: set, list, remove on a real data folder; the audit knows names, nobody is told a secret."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import commands

PLANTED = "PLANTED-KEY-0123"
CONFIG = """
data = "{data}"
[[receivers]]
kind = "sia_dc09"
name = "arc"
host = "127.0.0.1"
port = 9
key = "secret:arc-key"
"""


def iotcore(config: Path, *words: str, said: str = "", code: int = 0) -> str:
    done = commands.run(*words, "--config", config, said=said)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert PLANTED not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_secret_is_set_listed_and_kept_while_a_receiver_needs_it(tmp_path: Path) -> None:
    config = tmp_path / "iotcore.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data"), encoding="utf-8")
    (tmp_path / "data").mkdir()
    assert iotcore(config, "secret", "list") == "there are none\n"
    assert iotcore(config, "secret", "set", "arc-key", "--by", "lan", said=f"{PLANTED}\n").endswith("secret:arc-key\n")
    (tmp_path / "other").write_text(f"{PLANTED}\n", encoding="utf-8")
    iotcore(config, "secret", "set", "other", "--file", str(tmp_path / "other"))
    assert json.loads(iotcore(config, "secret", "list", "-o", "json")) == [
        {"name": "arc-key", "used_by": ["arc"]},
        {"name": "other", "used_by": []},
    ]
    assert "arc cannot do without the secret 'arc-key'" in iotcore(config, "secret", "remove", "arc-key", code=1)
    iotcore(config, "secret", "remove", "other")
    assert "There is no secret 'other'" in iotcore(config, "secret", "remove", "other", code=1)
    audit = iotcore(config, "audit", "show")
    assert "secret.set" in audit
    assert "secret.remove" in audit
    assert "lan" in audit
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or PLANTED.encode() not in path.read_bytes(), path
