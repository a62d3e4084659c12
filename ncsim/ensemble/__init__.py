"""A whole run.

`run` trains the members of a config or grid, in memory or into a folder; `work` says which parts this process trains; `trainer` feeds
devices; `audit` trains a random share again and compares bit for bit.
"""
