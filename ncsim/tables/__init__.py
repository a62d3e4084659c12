"""Anybody's table of joint outcomes: `reading` takes it from a file, `description` says of it what is said of an ensemble."""

from ncsim.tables.description import describe, lines
from ncsim.tables.reading import JointTable, read_table

__all__ = ["JointTable", "describe", "lines", "read_table"]
