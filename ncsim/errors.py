"""The errors that users meet, and one line of any error. Every message names what it is about, the value and what is allowed."""

from __future__ import annotations

import shlex


class MissingExtra(ImportError):
    """Packages that only an extra installs are not there; the message says how to install them."""


def missing_extra(error: ImportError, wanted: str = "ncsim.text", extra: str = "text") -> MissingExtra:
    """The error to raise in place of `error`, in one line: what is wanted needs an extra of this package."""
    library = (error.name or str(error)).split(".")[0]
    return MissingExtra(
        f"{wanted}: {library} is not installed; install it from a clone of this repository with: pip install '.[{extra}]'",
        name=library,
    )


class ConfigError(ValueError):
    """A value that no run can have. The message names the option, the value and what is allowed, in one line.

    Example:
        >>> from ncsim import EnsembleConfig
        >>> EnsembleConfig(hidden=0)
        Traceback (most recent call last):
        ncsim.errors.ConfigError: --hidden: 0; allowed: a whole number from 1 to 64
    """


class DeviceError(RuntimeError):
    """A device that does not start, or failed. The message is one line."""


class StoreError(Exception):
    """A run folder, or a part of it, that cannot be used as asked. The message is one line, made from the fields.

    Attributes:
        problem: what is wrong.
        place: the folder or file that it is wrong with; "" where the problem says it.
        remedy: what to do; "" where there is nothing to say.

    Example:
        >>> from ncsim import open_run
        >>> try:
        ...     open_run("no-such-folder")
        ... except StoreError as error:
        ...     print(error.problem)
        no run is stored there (no config.json)
    """

    def __init__(self, problem: str, place: str = "", remedy: str = "") -> None:
        self.problem, self.place, self.remedy = problem, place, remedy
        super().__init__((f"{place}: " if place else "") + problem + (f"; {remedy}" if remedy else ""))


class NoRunError(StoreError):
    """No run is stored at the place."""


def one_line(error: BaseException | str) -> str:
    """What an error says, on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def reason(error: OSError) -> str:
    """Why the operating system, or the object store, did not do something."""
    return one_line(error.strerror or error)


def report_command(option: str, location: str) -> str:
    """`ncsim report` with an option, of a run folder, as a shell takes it: a name may have spaces."""
    return shlex.join(["ncsim", "report", option, location])


class DataError(ConfigError):
    """A data file that is missing or cannot be used as it is. The message is one line that names it.

    Example:
        >>> import ncsim
        >>> ncsim.text.open_suite("mine.toml")
        Traceback (most recent call last):
        ncsim.errors.DataError: mine.toml: cannot be read (No such file or directory)
    """
