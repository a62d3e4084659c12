"""From files to numbers: data sets, suites of tasks, items of two classes, tokens."""
