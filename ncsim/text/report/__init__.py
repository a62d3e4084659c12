"""The report of a text run: numbers, figures, words and the page."""
