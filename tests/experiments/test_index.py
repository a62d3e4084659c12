"""The index of the experiments is what their docstrings say."""

from experiments.shared.index import FOLDER, index


def test_the_page_is_made_from_the_files():
    assert (FOLDER / "README.md").read_text() == index()


def test_every_experiment_stands_there():
    page = index()
    for path in FOLDER.glob("*.py"):
        assert path.name == "__init__.py" or f"[{path.name}]" in page
