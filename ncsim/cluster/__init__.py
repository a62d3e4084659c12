"""Many machines on one run.

`tasks` hands tasks out to an executor, `ray_pool` gives Ray's as one, `shards` a static share of a run, and `distributed` finds that share where a launcher
has started several processes.

Decisions
---------
An engine hands out parts. A part is named by its config and has the same bytes whoever trains it, so a task that is lost is
handed out again, and nobody has to know who does what. Whatever has `submit` of `concurrent.futures.Executor` is an engine
(`ensemble/pool.py`, `text/pool.py`). A static share needs none, and nobody helps a process that dies: the same command again trains what it
left.
"""
