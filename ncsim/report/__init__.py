"""Words and pictures.

`summary` has the numbers of a report, `sentences` its words, `claims` the paper's claims, `figures` its pictures, `provenance` where it
comes from, `page` its HTML by `templates/`; `write` puts them together, and `watch` does so while a run trains. A report sees stored
records, never a network.
"""
