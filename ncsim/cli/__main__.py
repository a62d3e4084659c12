"""`python -m ncsim.cli`, where the command itself is not on the path."""

from ncsim.cli import main

main()
