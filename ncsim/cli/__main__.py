"""`python -m ncsim.cli`, where the command itself is not on the path."""

from __future__ import annotations

from ncsim.cli import main

main()
