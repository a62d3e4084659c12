"""How fast ncsim is: `throughput.py` against its peers, `scaling.py` against itself. See README.md here."""
