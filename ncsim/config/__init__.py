"""What a run is.

`ensemble` has the frozen config of a run, its checks and grids; `tasks` the truth tables; `recording` the steps at which members are
recorded; `fields` the bounds, help and checks of one field; `given` takes one config or several. NumPy alone is needed here.

Decisions
---------
Recording is an option of a run, not of the config. `Recording` says at which steps every member is looked at; it
changes no fingerprint and no member. An executor's `train` takes a number of steps, or R ascending ones, and then gives
the parameters after each, stopping between two of the same steps: the C program stores its vectors and goes on, the scan
and the kernel nest their loop. What is recorded (`training/observation.py`) is computed from those parameters outside the loop, by
one function for all executors. Tests hold every member's record, bit for bit, to that of a run that does not record, and
what stands at step k to a run of k steps. Trajectories go to `trajectories/`, cut where the members' parts are and once
more, so that memory is bounded; they are written before the members' own part, so that a member that a part holds has
its trajectory, and what a killed writer left without its members is removed. A run that was stored without recording
can be recorded later: its members are trained again and must come out as they are stored.
"""
