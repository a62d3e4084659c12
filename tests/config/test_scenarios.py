"""Tasks of scenarios: the families, own ones, and what is refused."""

import dataclasses
import itertools
import re

import pytest

import ncsim
from ncsim.config.ensemble import fingerprint, from_dict, network_steps, to_dict
from ncsim.config.scenarios import shares, tasks_from_dict, tasks_to_dict, two_by_two
from ncsim.config.tasks import CONTEXTS, PAPER_TASKS, context_targets
from tests.support.scenarios import THREE


def test_two_settings_are_the_paper_s_tasks_in_its_contexts():
    tasks = ncsim.chained_tasks(2)
    assert tasks.inputs == PAPER_TASKS.inputs
    assert tasks.answers == PAPER_TASKS.answers == (PAPER_TASKS.alice, PAPER_TASKS.bob)
    assert tasks.contexts == PAPER_TASKS.contexts == CONTEXTS
    assert tasks.party_features == PAPER_TASKS.party_features
    assert (context_targets(tasks) == context_targets(PAPER_TASKS)).all()


@pytest.mark.parametrize("settings", range(2, 7))
def test_tasks_of_a_party_are_different_and_not_opposite(settings):
    tasks = ncsim.chained_tasks(settings)
    for party in tasks.answers:
        assert len(party) == settings
        for one, other in itertools.combinations(party, 2):
            assert one != other
            assert tuple(1 - answer for answer in one) != other
        assert all(0 < sum(table) < 16 for table in party)
    assert len(tasks.contexts) == 2 * settings == len(tasks.context_names)
    for party in (0, 1):  # every task in two contexts: a ring
        assert sorted(context[party] for context in tasks.contexts) == sorted([*range(settings), *range(settings)])
    assert network_steps(ncsim.EnsembleConfig(tasks=tasks, steps=5)) == 10 * settings


def test_three_parties_see_their_own_bits():
    tasks = ncsim.three_party_tasks()
    assert (tasks.parties, tasks.rows, tasks.features, len(tasks.contexts)) == (3, 64, 6, 8)
    for party, own in enumerate(tasks.party_features):
        for table in tasks.answers[party]:
            by_own = {}
            for row, answer in zip(tasks.inputs, table, strict=True):
                by_own.setdefault(tuple(row[f] for f in own), set()).add(answer)
            assert all(len(answers) == 1 for answers in by_own.values())
    assert ncsim.three_party_tasks(shared=True).party_features == ((0, 3), (1, 3), (2, 3))


def test_features_are_shared_out_in_order():
    assert [list(each) for each in shares(5, 2)] == [[0, 1, 2], [3, 4]]  # as truth_tables has it
    assert [list(each) for each in shares(7, 3)] == [[0, 1, 2], [3, 4], [5, 6]]


def test_a_config_is_the_same_after_json():
    for tasks in (ncsim.chained_tasks(4), THREE):
        config = ncsim.EnsembleConfig(tasks=tasks)
        assert from_dict(to_dict(config)) == config
        assert tasks_from_dict(tasks_to_dict(tasks)) == tasks
    assert fingerprint(ncsim.EnsembleConfig(tasks=THREE)) != fingerprint(ncsim.EnsembleConfig())
    with pytest.raises(ValueError, match=r"tasks.colour: no such key"):
        tasks_from_dict(tasks_to_dict(THREE) | {"colour": 1})


def test_one_network_has_all_tasks_as_heads():
    tasks = ncsim.one_network(ncsim.chained_tasks(3))
    assert (tasks.parties, tasks.contexts) == (6, ((0,) * 6,))
    assert [party[0] for party in tasks.answers] == [t for party in ncsim.chained_tasks(3).answers for t in party]
    with pytest.raises(ncsim.ConfigError, match=r"^tasks: 8 in all; allowed on one network: 6$"):
        ncsim.one_network(ncsim.chained_tasks(4))


GOOD = {
    "inputs": [(0,), (1,)],
    "answers": [[(0, 1)], [(1, 0), (0, 1)]],
    "contexts": [(0, 0), (0, 1)],
    "party_features": [[0], [0]],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answers": [[(0, 1)]]}, "tasks.answers: 1 parties; allowed: 2 to 6"),
        ({"answers": [[(0, 1)], []]}, "tasks.answers: 0 tasks of a party; allowed: 1 to 6"),
        ({"answers": [[(0, 1)], [(1, 0), (0,)]]}, "tasks.answers: 1 answers of a task; allowed: one a row, 2"),
        ({"answers": [[(0, 2)], [(1, 0), (0, 1)]]}, "tasks.answers: 2; allowed: 0 or 1"),
        ({"contexts": []}, "tasks.contexts: 0 contexts; allowed: 1 to 64"),
        ({"contexts": [(0, 2)]}, "tasks.contexts: (0, 2); allowed: one task number per party, from 0"),
        ({"contexts": [(0,)]}, "tasks.contexts: (0,); allowed: one task number per party, from 0"),
        ({"contexts": [(0, True)]}, "tasks.contexts: (0, True); allowed: one task number per party, from 0"),
        ({"contexts": [(0, 0), (0, 0)]}, "tasks.contexts: a context is there twice; allowed: each once"),
        ({"party_features": [[0]]}, "tasks.party_features: 1 parties; allowed: 2"),
        ({"party_features": [[0], [1]]}, "tasks.party_features: (1,); allowed: 0 to 0"),
        ({"inputs": [(0,), (1, 0)]}, "tasks.inputs: row 1 has 2 features, row 0 has 1"),
        ({"name": 3}, "tasks.name: 3; allowed: a text"),
    ],
)
def test_what_is_no_scenario(change, words):
    assert ncsim.ScenarioTasks(**GOOD).parties == 2
    with pytest.raises(ValueError, match=re.escape(words)):
        ncsim.ScenarioTasks(**(GOOD | change))


@pytest.mark.parametrize("settings", [1, 7, 2.0, True])
def test_settings_that_no_two_bits_have(settings):
    with pytest.raises(ncsim.ConfigError, match=r"^settings: .*; allowed: a whole number from 2 to 6$"):
        ncsim.chained_tasks(settings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"topology": "overlap"}, "--topology: overlap with 3 parties, and it is about two; allowed: dense"),
        (
            {"intervention": "pcgrad"},
            "--intervention: pcgrad with 3 parties, and it is about two; allowed: none, frozen",
        ),
        ({"bob_weight": 0.5}, "--bob-weight: 0.5 with 3 parties; allowed: 1"),
        ({"training_rows": 3}, "--training-rows: 3 with eight rows; allowed in a scenario: 0, which is all"),
    ],
)
def test_fields_that_are_about_two_parties(fields, words):
    with pytest.raises(ncsim.ConfigError, match="^" + re.escape(words)):
        ncsim.EnsembleConfig(tasks=THREE, **fields)
    if "training_rows" not in fields:  # two parties may have them, however many tasks
        ncsim.EnsembleConfig(tasks=ncsim.chained_tasks(3), **fields)


def test_what_is_about_two_tasks_of_two_parties_refuses_scenarios():
    from ncsim.ensemble.circuits import run_circuits

    assert two_by_two(PAPER_TASKS) is PAPER_TASKS
    config = ncsim.EnsembleConfig(tasks=ncsim.chained_tasks(3))
    words = (
        r"^--tasks: chained 3, a scenario; allowed here: two tasks of two parties \(scenarios: ncsim.run_scenario\)$"
    )

    def reservoir(config):
        return ncsim.reservoir(config=config)

    for refuses in (ncsim.run_ensemble, run_circuits, reservoir, ncsim.random_solutions):
        with pytest.raises(ncsim.ConfigError, match=words):
            refuses(config)
    with pytest.raises(ncsim.ConfigError, match=words):
        ncsim.foreign_share(dataclasses.replace(config, precision="float64"))
    with pytest.raises(
        ncsim.ConfigError, match=r"^--tasks: paper, two of two parties; allowed here: an ncsim.Scenario"
    ):
        ncsim.run_scenario(ncsim.EnsembleConfig())
