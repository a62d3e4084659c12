"""What is refused: the one line that a command ends with, or that a function raises."""

import jax
import numpy as np
import pytest

from ncsim.cli.command import main
from ncsim.errors import ConfigError


def refused_command(capsys, *arguments):
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ncsim: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def refused_call(function, *arguments):
    """The one line with which something is refused."""
    with pytest.raises(ConfigError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_same(tree, other):
    """Two trees have the same arrays, bit for bit."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)
