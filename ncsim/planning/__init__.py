"""Before a run.

`plan` forecasts time, memory and disk from a `calibration` on this machine; `forecast` says it in words; `memory` reads what a process had.
"""
