"""C made from the training step, compiled here: expressions, the order of operations, a template, the compiler and its cache."""

from ncsim.c_compiler import built
from ncsim.executors.native.program import source

__all__ = ["built", "source"]
