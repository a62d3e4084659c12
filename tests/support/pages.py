"""Runs whose pages tests look at: made-up records, and many cells from one."""

import copy

import ncsim
from ncsim.report.summary import Summary, summarise
from ncsim.storage.run_folder import RunFolder
from tests.statistics.test_protocols import made_up

MEMBERS = 300


def stored(path, configs, without=()):
    """A run of made-up records, with nothing stored of some cells."""
    folder = RunFolder.create(path, configs)
    for cell, config in enumerate(configs):
        if cell not in without:
            folder.write_part(config, made_up(config.members, seed=cell + 1))
    return ncsim.open_run(path)


def grid(path, cells):
    """A run of so many cells and its summary: the numbers of three made-up cells, again and again."""
    rates = [round(0.001 * (n + 1), 3) for n in range(cells // 3)]
    configs = ncsim.config_grid(hidden=[2, 3, 4], learning_rate=rates, members=MEMBERS)
    three = summarise(stored(path / "three", configs[:3]))
    RunFolder.create(path / "grid", configs)
    run = ncsim.open_run(path / "grid")
    numbers = copy.copy(three.numbers) | {"run": run.location, "swept": run.swept, "members_missing": 0}
    names = [{"hidden": config.hidden, "learning_rate": config.learning_rate} for config in configs]
    numbers["cells"] = [three.numbers["cells"][n % 3] | {"cell": name} for n, name in enumerate(names)]
    laws, dots = ([each[n % 3] for n in range(len(configs))] for each in (three.laws, three.dots))
    return run, Summary(numbers, laws, dots)
