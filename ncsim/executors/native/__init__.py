"""C made from the training step, compiled here: expressions, the order of operations, a template, the compiler and its cache."""
