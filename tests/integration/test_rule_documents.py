"""Rule documents in a real registry, and a process that follows them: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused, StoreError
from iotcore.process import ruled as following
from iotcore.process.ruled import WHOLE_S
from iotcore.registry.database import Database
from iotcore.registry.rule_documents import RuleStore
from iotcore.registry.store import open_registry
from tests.support.registry_sql import sql
from tests.support.ruling import BASE, advisory, level, ruled
from tests.support.until import until


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    async with await open_registry(url, ManualClock()) as registry:
        yield registry.database


async def test_documents_have_versions_that_go_on_and_stand_in_the_audit(registry_url: str) -> None:
    async with await open_registry(registry_url, ManualClock()) as registry:
        store = RuleStore(registry.database)
        made = await store.save({"smoke-level": level(0.3), "early": advisory("early")}, "lan", {"early": 0})
        assert [(one.key, one.version, one.by) for one in made] == [("smoke-level", 1, "lan"), ("early", 1, "lan")]
        assert await store.save({"smoke-level": level(0.3)}, "an") == []  # as it was
        await store.save({"smoke-level": level(0.35)}, "an", {"smoke-level": 1})
        with pytest.raises(Refused, match="rule early has version 1, not 0"):
            await store.save({"smoke-level": level(0.9), "early": advisory("early", 0.2)}, "an", {"early": 0})
        assert (await store.all())["smoke-level"].version == 2  # of what was refused nothing was saved
        with pytest.raises(Refused, match="conflict"):
            await store.remove("smoke-level", "an", 1)
        assert (await store.remove("smoke-level", "an", 2)).version == 3  # type: ignore[union-attr]
        assert await store.remove("smoke-level", "an") is None
        await store.save({"smoke-level": level(0.3)}, "an", {"smoke-level": 0})
        versions = await store.versions("smoke-level")
        assert [(one.version, bool(one.body)) for one in versions] == [(4, True), (3, False), (2, True), (1, True)]
        assert [one.version for one in await store.versions("smoke-level", before=3, limit=1)] == [2]
        assert await store.version("smoke-level", 9) is None
        told = [(one.deed.action, json.loads(one.deed.detail)) for one in await registry.audit_entries()]
        saved = [detail for action, detail in told if action == "rule.save"]
        assert saved[2] == {"key": "smoke-level", "version": 2, "rule": level(0.35)}
        assert [detail["version"] for action, detail in told if action == "rule.remove"] == [3]
        assert await registry.verify_audit() == []


async def test_ten_thousand_documents_are_one_transaction_and_no_more_are_taken(registry_url: str) -> None:
    async with opened(registry_url) as database:
        store = RuleStore(database)
        many = {f"a{n}": advisory(f"a{n}") for n in range(10_000)}
        assert len(await store.save(many, "lan")) == 10_000
        with pytest.raises(Refused, match="too_many"):
            await store.save({"one-more": advisory("one-more")}, "lan")
        rules = ruled(database)
        assert await rules.refresh()
        assert len(rules.rules) == 10_000 + len(BASE)


async def test_what_is_saved_is_in_use_within_a_second_and_the_base_again_after_a_removal(registry_url: str) -> None:
    async with opened(registry_url) as database, opened(registry_url) as other:
        used: list[int] = []
        rules = following.Ruled(RuleStore(other), BASE, ManualClock())
        task = asyncio.create_task(rules.run(lambda given: used.append(len(given))))
        try:
            await until(lambda: rules.version("early") == 0)
            store = RuleStore(database)
            await store.save({"smoke-level": level(0.31), "early": advisory("early")}, "lan")
            await until(lambda: "early" in rules.in_use, 1.0)
            assert rules.in_use["smoke-level"].rule.when.above == 0.31  # type: ignore[union-attr]
            assert used == [len(BASE) + 1]
            await store.remove("smoke-level", "lan")
            await until(lambda: rules.in_use["smoke-level"].origin == "base", 1.0)
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_document_that_cannot_be_read_leaves_its_last_good_version_in_use(
    registry_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(registry_url) as database:
        store, clock = RuleStore(database), ManualClock()
        rules = ruled(database, clock)
        await store.save({"smoke-level": level(0.31), "early": advisory("early")}, "lan")
        await rules.refresh()
        broken = json.dumps({**level(), "shade": "of a later release"})
        await sql(registry_url, f"UPDATE rule_document SET body = '{broken}', version = 7 WHERE key = 'smoke-level'")
        assert not await rules.refresh()  # by hand, without a change: found at the next look at everything
        clock.advance(WHOLE_S)
        with caplog.at_level(logging.CRITICAL):
            assert not await rules.refresh()
        assert rules.in_use["smoke-level"].rule.when.above == 0.31  # type: ignore[union-attr]
        (trouble,) = rules.troubles
        assert (trouble.key, trouble.version, trouble.used) == ("smoke-level", 7, 1)
        assert "shade: unknown key" in caplog.text
        assert "version 1 stays in use" in rules.state()["rule_troubles"][0]
        await store.save({"late": advisory("late")}, "lan")  # the others are followed
        assert await rules.refresh()
        assert "late" in rules.in_use
        caplog.clear()
        again = ruled(database)  # another process, which never had the good one: out of the history
        await again.refresh()
        assert again.in_use["smoke-level"].rule.when.above == 0.31  # type: ignore[union-attr]
        assert again.troubles == rules.troubles
        await store.save({"smoke-level": level(0.32)}, "lan")
        assert (await store.all())["smoke-level"].version == 8
        await rules.refresh()
        assert not rules.troubles
        assert "can be used again" in caplog.text


async def test_without_any_good_version_the_base_holds_and_nothing_before_a_removal_comes_back(registry_url: str) -> None:
    async with opened(registry_url) as database:
        store = RuleStore(database)
        await store.save({"smoke-level": level(0.9), "early": advisory("early")}, "lan")
        await store.remove("smoke-level", "lan")
        await sql(
            registry_url,
            """INSERT INTO rule_document (key, body, version, "by", at_ms) VALUES ('smoke-level', '{', 3, 'hand', 1)""",
            "UPDATE rule_document SET key = 'renamed' WHERE key = 'early'",
        )
        rules = ruled(database)
        await rules.refresh()
        assert rules.in_use["smoke-level"].origin == "base"
        assert {one.key: one.used for one in rules.troubles} == {"smoke-level": 0, "renamed": 0}
        assert "holds the rule early" in str(rules.troubles[0])
        assert "renamed" not in rules.in_use


class Unsteady(RuleStore):
    """A registry that answers now and then."""

    answers = True

    async def changed_after(self, cursor: int) -> tuple[int, bool]:
        if not self.answers:
            raise StoreError("the registry cannot do that")
        return await super().changed_after(cursor)


async def test_while_the_registry_does_not_answer_the_rules_stay(
    registry_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.01)
    async with opened(registry_url) as database:
        store = Unsteady(database)
        rules = following.Ruled(store, BASE, ManualClock())
        await store.save({"early": advisory("early")}, "lan")
        task = asyncio.create_task(rules.run(poll_s=0.01))
        try:
            await until(lambda: "early" in rules.in_use)
            store.answers = False
            await until(lambda: bool(rules.unreadable))
            assert "early" in rules.in_use
            assert caplog.text.count("the fire rules cannot be read") == 1
            await store.save({"later": advisory("later")}, "lan")
            store.answers = True
            await until(lambda: "later" in rules.in_use)
            assert not rules.unreadable
        finally:
            task.cancel()
            await asyncio.wait({task})
