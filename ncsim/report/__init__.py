"""Words and pictures.

`summary` has the numbers of a report, `sentences` its words, `figures` its pictures, `page` its HTML; `write` puts them together. A report
sees stored records, never a network.
"""
