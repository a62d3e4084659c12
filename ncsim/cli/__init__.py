"""The command `ncsim`. `main` is its entry; nothing here needs JAX before something is trained."""

from ncsim.cli.command import main as main
