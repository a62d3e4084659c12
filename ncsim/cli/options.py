"""Options that several commands and experiments have: fields of a config, many machines, audits; and what they come to.

Nothing here imports jax before it is needed: `--help` and errors are to come at once.

An option that is a field of a run is made from `config/ensemble.py`: add the field there, and nothing here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ncsim import signals
from ncsim.config.ensemble import EXECUTORS, EnsembleConfig, allowed_values, field_specs, grid_of
from ncsim.config.fields import count, option_name, shown_word, spelled
from ncsim.config.fields import parsed as parsed_word
from ncsim.config.recording import MOST_POINTS, MOST_STEPS, SPACINGS, Recording
from ncsim.errors import ConfigError, StoreError
from ncsim.formatting import counted
from ncsim.terminal import PROGRAM, say

if TYPE_CHECKING:
    from ncsim.cluster.shards import Shard


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """One option a config field, each taking one or more values."""
    defaults = EnsembleConfig()
    for name, spec in field_specs().items():
        if "help" not in spec:
            continue  # given in Python only
        default = getattr(defaults, name)
        shown = spelled(default) or "none"
        bounds = allowed_values(name) if "choices" in spec or spec["type"] is not str else None
        text = f"{spec['help']} ({bounds}; default: {shown})" if bounds else f"{spec['help']} (default: {shown})"
        parser.add_argument(
            option_name(name),
            nargs="*" if spec["type"] is bool else "+",
            metavar={int: "N", float: "X", bool: "BOOL", str: "NAME"}[spec["type"]],
            help=text.replace("%", "%%"),
        )


def add_devices_option(parser: argparse.ArgumentParser) -> None:
    """--devices."""
    parser.add_argument("--devices", metavar="N", help="devices to use; on a CPU, cores (default: all)")


def add_place_option(parser: argparse.ArgumentParser, kind: str) -> None:
    """--out, of a command that trains a run of this kind."""
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help=f"run folder, or s3://... or gs://...; one that holds this run is resumed (default: runs/{kind}-DIGITS)",
    )


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """What trains: devices and executor."""
    add_devices_option(parser)
    parser.add_argument(
        "--executor",
        metavar="NAME",
        default="auto",
        help=f"what trains ({', '.join(EXECUTORS)}; default: auto, the fastest here; a stored run keeps its own)",
    )


def check_executor_word(word: str) -> None:
    """Refuse an --executor that there is not, also where nothing is trained. Raises ConfigError."""
    if word not in EXECUTORS:
        raise ConfigError(f"--executor: {shown_word(word)}; allowed: {', '.join(EXECUTORS)}")


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """When members are recorded as they train; not at all where none of the options is given."""
    parser.add_argument(
        "--record-points",
        metavar="N",
        help="record every member at about N steps of its training, into trajectories/ (default: no recording)",
    )
    parser.add_argument(
        "--record-spacing",
        metavar="NAME",
        help=f"how recorded steps lie ({', '.join(SPACINGS)}; default: linear, or every with --record-every)",
    )
    parser.add_argument("--record-every", metavar="K", help="record each K-th step")


def add_until_option(parser: argparse.ArgumentParser) -> None:
    """--until."""
    parser.add_argument(
        "--until",
        metavar="WORDS",
        help="end when the 95 %% interval of a number of the report reaches no further than this from it, as "
        '"P(S > 2) +- 0.002" or "mean S, best of 20 by loss, hidden=3 +- 0.01"; --members is then the most (default: train them all)',
    )


def until_of(parsed: argparse.Namespace, configs: list[EnsembleConfig]) -> str | None:
    """The option --until.

    Raises:
        ConfigError: it asks for nothing that these cells have.
    """
    if parsed.until is None:
        return None
    from ncsim.statistics.until import Until

    until = Until.parse(parsed.until)
    until.cells(configs)
    for option in ("--shard", "--distributed"):  # before processes wait for each other
        if getattr(parsed, option.removeprefix("--"), None):
            until.refuse_shares(option)
    return str(until)


def recording_of(parsed: argparse.Namespace, default: Recording | None = None) -> Recording | None:
    """The recording that the options ask for, else the default.

    Raises:
        ConfigError: a value that is not allowed.
    """
    given: dict[str, Any] = {"spacing": parsed.record_spacing}
    for name, least, most in (("points", 2, MOST_POINTS), ("every", 1, MOST_STEPS)):
        given[name] = count(f"--record-{name}", getattr(parsed, f"record_{name}"), most, least)
    given = {name: value for name, value in given.items() if value is not None}
    if "points" in given and "every" in given:
        raise ConfigError(f"--record-every: {given['every']} with --record-points; allowed: one of them")
    if "every" in given:
        given.setdefault("spacing", "every")
    return Recording(**given) if given else default


def configs_of(parsed: argparse.Namespace) -> list[EnsembleConfig]:
    """The grid that the options ask for.

    Raises:
        ConfigError: a value that is not allowed.
    """
    fields: dict[str, Any] = {}
    for name, spec in field_specs().items():
        words = getattr(parsed, name, None)
        if words is None and name in getattr(parsed, "of_file", {}):
            fields[name] = parsed.of_file[name]  # of the file that --config names
        elif words is not None:
            fields[name] = [
                parsed_word(name, spec["type"], word, allowed_values(name), several=True) for word in words or ["true"]
            ]
    for name in ("members", "first_member"):
        if len(fields.get(name, ())) > 1:
            raise ConfigError(
                f"{option_name(name)}: {' '.join(map(str, fields[name]))}; allowed: one value for all cells"
            )
    return grid_of(fields, getattr(parsed, "of_file", ()))


def device_count(word: str | None) -> int | None:
    """The --devices option as a number."""
    return count("--devices", word)


#: Options of earlier versions, and what is there in their place.
GONE = dict.fromkeys(
    ("--coordinator", "--processes", "--process"),
    "no longer an option; allowed: --cluster ADDRESS, --shard I/N in each process, or --distributed where SLURM, Open MPI "
    "or a TPU pod started them",
)


def add_worker_options(parser: argparse.ArgumentParser, parts: str = "parts", distributed: bool = True) -> None:
    """--cluster, --shard and, where wanted, --distributed: many machines on one run, whose parts are called so."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=f"train the {parts} by tasks of Ray: ray (one on this machine, started and stopped), auto or ray://HOST:PORT (a "
        "cluster that runs; default: in this process)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="train the I-th of N shares of the run, as 3/16, into a folder that all of them have in common; the one that "
        "finds everything stored writes the report (default: all of it)",
    )
    if not distributed:
        return
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="be one of several processes that SLURM, Open MPI or a TPU pod started: start together, then train one share each "
        "(default: where one of them says that there are several)",
    )


def place_of(parsed: argparse.Namespace, devices: int | None) -> Shard | None:
    """Which share of the run is this process's, None for all of it.

    Raises:
        ConfigError: an option that is not allowed, or processes that do not find one another.
    """
    from ncsim.cluster.distributed import join, launched_by
    from ncsim.cluster.shards import Shard

    distributed = getattr(parsed, "distributed", None)  # of `ncsim ensemble`
    if distributed and parsed.shard is not None:
        raise ConfigError("--shard: with --distributed; allowed: one of the two ways")
    if parsed.cluster is not None:
        other = "--shard" if parsed.shard is not None else "--distributed" if distributed else None
        if other:
            raise ConfigError(f"--cluster: with {other}; allowed: one of the two ways")
        return None
    if parsed.shard is not None:
        return Shard.parse(parsed.shard)
    if distributed is None or (not distributed and launched_by() is None):
        return None
    from ncsim.executors.devices import prepare_jax

    prepare_jax(devices)
    shard = join()
    return shard if shard.of > 1 else None


def kept_place(location: str) -> str:
    """Where a command stores a run.

    Raises:
        ConfigError: in its own memory, which is gone when the command ends.
    """
    if location.startswith("memory://"):
        raise ConfigError(
            f"--out: {location}; it would be gone when the command ends; allowed: a folder, or s3://, gs://, az://"
        )
    return location


def share_stored(shard: Shard, location: str | None, missing: int, noun: str = "member", asked: bool = True) -> str:
    """What is said at the end of a share where others are missing. Nobody may have what is: a share that died, or one of a run that
    another version began, which may have shared it out otherwise. `asked`: whether by --shard, and not by what started the process."""
    alone = "without --shard" if asked else "as a single process"
    return (
        f"Share {shard.number} of {shard.of} is stored in {location}. When all are: {PROGRAM} report {location}\n"
        f"{counted(missing, f'{noun} is', f'{noun}s are')} still to be trained. What shares have left at their end, the same command "
        f"{alone} trains."
    )


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """--audit and --audit-seed."""
    parser.add_argument(
        "--audit",
        metavar="SHARE",
        help="train a random share of the members again, as 0.01, and end with status 1 if one is not as stored",
    )
    parser.add_argument("--audit-seed", metavar="N", help="seed of the choice of members (default: a new one, stated)")


def audit_of(parsed: argparse.Namespace) -> tuple[float | None, int]:
    """The share of members to audit, None for no audit, and the seed of their choice.

    Raises:
        ConfigError: an option that is not allowed.
    """
    if parsed.audit is None and parsed.audit_seed is None:
        return None, 0

    if parsed.audit is None:
        raise ConfigError("--audit-seed: without --audit; allowed: with --audit SHARE")
    seed = count("--audit-seed", parsed.audit_seed, SEEDS - 1, smallest=0)
    # Without one, a new one.
    return checked_share(parsed.audit), int.from_bytes(os.urandom(4), "big") % SEEDS if seed is None else seed


SEEDS = 2**31


def checked_share(word: str) -> float:
    """The option --audit as a number.

    Raises:
        ConfigError: it is not above 0 and at most 1.
    """
    allowed = "a share of the members, above 0 to 1, as 0.01"
    share: float = parsed_word("audit", float, word, allowed)
    if not 0 < share <= 1:
        raise ConfigError(f"--audit: {shown_word(word)}; allowed: {allowed}")
    return share


def kept_report(store: Callable[[], object], where: str, quiet: bool) -> str:
    """Store a report, and say where it stands; nothing where it could not be, as in a folder that can only be read: what was asked
    for is printed all the same.

    Raises:
        StoreError: it could not be stored, and nothing is to be printed.
    """
    try:
        store()
    except StoreError as error:
        signals.check()  # a signal that ends the process takes away what is being drawn
        if quiet:
            raise
        say(str(error))
        return ""
    return where
