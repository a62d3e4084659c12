"""Several workers on one run.

`claims` says which worker trains which part, `workers` how they share and wait, `distributed` starts processes that JAX brings together.

Decisions
---------
Claims are for speed, not for safety. Workers share a run by files that expire (`cluster/claims.py`), judged by an unchanged
heartbeat on the observer's own monotonic clock. Whatever goes wrong with them, two workers train the same part and write
the same bytes. No lock is needed where there is none to be had.
"""
