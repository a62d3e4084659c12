"""Words and pictures.

`summary` has the numbers of a report, `sentences` its words, `claims` the paper's claims, `figures` its pictures, `provenance` where it
comes from, `page` its HTML by `templates/`; `pictures` has what is drawn and `drawing` by whom, `write` puts them together, and `watch` does so while a run trains.
A report sees stored records, never a network.

Decisions
---------
Who draws: where there are many members, a process that is started with the report (`drawing`). Python computes on one processor at a
time, so that to import what draws, a third of a second, and to draw, most of one, were half of a report of 10^6 members. It costs a third of
a second of processors, and saves as much of the clock. It is started anew and not forked: a report has threads, of Arrow and of what answers
Ctrl-C, whose locks a fork would find held for ever. What it is asked for is numbers: those that a figure and a table have in common are made
once, in the report's process.
"""
