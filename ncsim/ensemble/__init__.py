"""A whole run.

`run` trains the members of a config or grid, in memory or into a folder; `job` has its parts trained and stored here, and `pool`
by other processes; `work` says which parts are to be trained; `trainer` feeds devices; `kinds` compares machines; `audit` trains a
random share again and compares bit for bit.
"""
