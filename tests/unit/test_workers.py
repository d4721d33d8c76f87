"""The split of the work among telemetry workers: whole domains, each with one owner, nothing unheard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import ConfigError
from iotcore.journal.progress import Row
from iotcore.process import home
from iotcore.process.workers import GATEWAY_STATUS, POSSIBLE, given_up, parts, workers
from iotcore.provision.acl import REPLICAS, ROLES, UP, matches
from iotcore.settings import DOMAINS, MAX_WORKERS, Settings, check
from iotcore.telemetry.handover import more
from iotcore.wire import topics

SPLITS = [
    [list(DOMAINS)],
    [["fire", "air", "water", "traffic"], ["gateway"]],
    [["water"], ["fire"], ["air", "traffic", "gateway"]],
    [["fire"], ["air"], ["water", "traffic"], ["gateway"]],
]


def settings(split: list[list[str]]) -> Settings:
    return check({"data": "d", "telemetry": [{"domains": domains} for domains in split]}, "test.toml")


def test_without_a_word_about_it_one_worker_owns_everything_under_the_name_it_always_had() -> None:
    (worker,) = workers(Settings(data="d"))
    assert (worker.name, worker.field_filters) == ("telemetry", (UP,))
    assert worker.domains == {*DOMAINS}
    assert worker.spool(Path("d")) == Path("d/spool-1.db")
    assert worker.clients() == ["svc.telemetry.1.field", "svc.telemetry.1.fire"]
    assert parts(Settings(data="d")) == ("fire", "telemetry", "modbus", "web", "keeper")


def test_the_domains_are_those_of_the_wire() -> None:
    assert DOMAINS == topics.DOMAINS


@pytest.mark.parametrize(
    ("split", "problems"),
    [
        ([["fire", "air"], ["water"]], ["telemetry: no worker owns traffic, gateway: nobody would store what is said there"]),
        (
            [["fire", "air", "water"], ["traffic", "gateway", "air"]],
            ["telemetry[1].domains: 'air' is already owned by telemetry[0]"],
        ),
        (
            [["fire", "fire", "air", "water", "traffic", "gateway"]],
            ["telemetry[0].domains: 'fire' is already owned by telemetry[0]"],
        ),
        ([list(DOMAINS), []], ["telemetry[1].domains: is empty: a worker that owns nothing has nothing to do"]),
        ([], ["telemetry: no worker owns fire, air, water, traffic, gateway: nobody would store what is said there"]),
        ([[one] for one in DOMAINS], ["telemetry: has 5 workers; there may be 4"]),
    ],
)
def test_a_split_that_is_not_whole_is_refused_and_says_what_is_missing_or_doubled(
    split: list[list[str]], problems: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(split)
    assert [str(problem) for problem in caught.value.problems] == [f"test.toml: {one}" for one in problems]


@pytest.mark.parametrize("split", SPLITS)
def test_every_domain_is_heard_by_its_owner_alone_and_an_unknown_one_by_exactly_one(split: list[list[str]]) -> None:
    found = workers(settings(split))
    for domain in topics.FIELD_DOMAINS:
        said = topics.up(domain, "p", "reading", "d")
        heard = [worker.number for worker in found if any(matches(one, said) for one in worker.field_filters)]
        assert heard == [worker.number for worker in found if domain in worker.domains]
    assert sum(worker.owns_fire for worker in found) == 1
    hearing = [worker for worker in found if UP in worker.field_filters or worker.hears_strays]
    assert len(hearing) == 1
    assert hearing[0].stray_cn in hearing[0].clients() or hearing[0].alone


@pytest.mark.parametrize("split", SPLITS)
def test_every_worker_hears_of_gateways_and_subscribes_to_something(split: list[list[str]]) -> None:
    for worker in workers(settings(split)):
        assert any(matches(one, topics.up("gateway", "g", "status", "g")) for one in worker.field_filters), GATEWAY_STATUS
        assert {*worker.field_filters, *worker.fire_filters} <= {*POSSIBLE}
        assert {*given_up(worker.field_filters)} == {*POSSIBLE} - {*worker.field_filters}


@pytest.mark.parametrize("split", SPLITS)
def test_processes_certificates_and_spools_have_names_of_their_own(split: list[list[str]]) -> None:
    made = settings(split)
    known = {name for role in ROLES for name in role.names()}
    assert len(set(parts(made))) == len(parts(made))
    assert len(set(home.clients(made))) == len(home.clients(made))
    assert {*home.clients(made)} <= known
    assert len({worker.spool(made.folder) for worker in workers(made)}) == len(split)
    assert MAX_WORKERS <= REPLICAS


SEQS = st.sets(st.integers(1, 30))


def row(stored: set[int], lost: int = 0) -> Row:
    """A track of `stored` as a worker keeps it."""
    up_to = 0
    while up_to + 1 in stored:
        up_to += 1
    return Row("d", "b", up_to, json.dumps(sorted(one for one in stored if one > up_to)), lost)


@given(SEQS, SEQS)
def test_a_worker_takes_over_exactly_what_either_has_stored(own: set[int], other: set[int]) -> None:
    taken = more([row(own)], [row(other)])
    assert taken == ([] if other <= own else [row(own | other)])


def test_tracks_that_only_the_other_has_are_taken_over_and_those_of_several_others_are_joined() -> None:
    assert more([], [row({1, 2}), row({1, 2, 3})]) == [row({1, 2, 3})]
    assert more([row({1})], []) == []
