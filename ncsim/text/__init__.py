"""BERT with low-rank adapters on real text, measured by the same statistics. Needs the `text` extra."""
