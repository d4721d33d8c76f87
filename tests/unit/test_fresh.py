"""Secrets that people carry."""

from __future__ import annotations

import secrets

import pytest

from iotcore.registry import fresh


def test_a_secret_never_begins_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["-qeI-HzfNM5apaNJS2o4fg", "--", "8abc-_"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(made))
    assert fresh.secret(16) == "8abc-_"


def test_two_are_never_the_same_and_hold_at_least_what_was_asked_for() -> None:
    found = {fresh.secret(16) for _ in range(1_000)}
    assert len(found) == 1_000
    assert {len(one) for one in found} == {23}  # 17 bytes
