# ruff: noqa: PT017 - a property is about the error where there is one, and about the result where there is none
"""Made-up options of `ncsim text`, suite files and data files: a config, a suite, rows, or one clear line."""

import json

import pytest
from hypothesis import strategies as st

from ncsim.cli import command as cli
from ncsim.cli.text import config_of
from ncsim.errors import ConfigError
from ncsim.text.config import field_specs
from ncsim.text.data.rows import READERS, read_rows
from ncsim.text.data.sources import SourceFile
from ncsim.text.data.suites import open_suite
from tests.support.cases import sizes
from tests.whole.test_fuzz import ends, json_values, words

OPTIONS = ["--" + name.replace("_", "-") for name in field_specs()]


@pytest.mark.parametrize("cases", [40, *sizes(240, 800)])
def test_options_of_text(fuzz, cases):
    """Parsed as the command parses them; nothing is loaded or trained."""

    @fuzz(
        cases, given=st.lists(st.tuples(st.sampled_from(OPTIONS), st.lists(words, min_size=1, max_size=2)), max_size=3)
    )
    def _(given):
        arguments = ["text"]
        for flag, values in given:
            arguments += [flag, *(word for word in values if not word.startswith("-"))]
        try:
            parsed, unknown = cli._parser().parse_known_args(arguments)
        except SystemExit as ended:
            assert ended.code == 2
            return
        if unknown:
            return
        try:
            config_of(parsed)
        except ConfigError as error:
            assert str(error).startswith("--")


def test_refused_by_the_command(fuzz):
    """The same through the whole command, with an option that ends it: one line, status 2."""

    @fuzz(25, flag=st.sampled_from(OPTIONS), word=words)
    def _(flag, word):
        status, said = ends(["text", flag, word, "--devices", "none"])
        assert status == 2
        assert len(said.splitlines()) == 1
        assert said.startswith("ncsim: error: ")


SUITE = {
    "name": "mine",
    "alice": [{"dataset": "sst2"}, {"dataset": "file", "train": "mine.tsv"}],
    "bob": [{"dataset": "paws_x", "language": "en"}, {"dataset": "mrpc"}],
}


@pytest.mark.parametrize("cases", [40, *sizes(240, 800)])
def test_suite_files(fuzz, cases, tmp_path):
    whole = json.dumps(SUITE)
    cut = st.tuples(st.integers(0, len(whole)), st.integers(0, 9), st.text(max_size=5)).map(
        lambda at: whole[: at[0]] + at[2] + whole[at[0] + at[1] :]
    )
    other = st.tuples(st.sampled_from(["name", "alice", "bob", "x"]), json_values).map(
        lambda pair: json.dumps(SUITE | {pair[0]: pair[1]})
    )
    tasks = st.lists(
        st.dictionaries(st.sampled_from(["dataset", "language", "train"]), json_values, max_size=3), max_size=3
    )
    text = st.one_of(cut, other, tasks.map(lambda made: json.dumps(SUITE | {"bob": made})), st.text(max_size=30))

    @fuzz(cases, text=text, suffix=st.sampled_from([".json", ".toml", ".txt"]))
    def _(text, suffix):
        path = tmp_path / f"suite{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            suite = open_suite(path)
        except ConfigError as error:
            assert len(str(error).splitlines()) <= 1 or not str(error).isprintable()
            return
        assert [len(suite.alice), len(suite.bob)] == [2, 2]


ROWS = {
    "sst2": "sentence\tlabel\na good film \t1\nbad\t0\n",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t10\t11\tone\ttwo\n0\t12\t13\tthree\tfour\n",
    "paws_x": "id\tsentence1\tsentence2\tlabel\n1\tone\ttwo\t0\n2\tthree\tfour\t1\n",
    "commonsense_qa": '{"answerKey": "A", "id": "q", "question": {"question_concept": "c", "choices": '
    '[{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "stem": "which?"}}\n',
    "math_qa": '[{"Problem": "p", "Rationale": "r", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "a"}]',
    "file": "text\tlabel\nhello\t0\nthere\t1\n",
}


@pytest.mark.parametrize("cases", [60, *sizes(360, 1_200)])
def test_data_files(fuzz, cases):
    pieces = st.sampled_from(
        ["\t", "\n", "\r", "\0", '"', "{", "}", "[", "1e999", "NaN", "\ufeff", "a ) ", "[" * 3_000]
    )

    @fuzz(
        cases,
        name=st.sampled_from(sorted(READERS)),
        place=st.floats(0, 1),
        drop=st.integers(0, 12),
        put=st.one_of(pieces.map(str.encode), st.binary(max_size=6)),
        shown=st.sampled_from(["mine.tsv", "mine.jsonl"]),
    )
    def _(name, place, drop, put, shown):
        whole = ROWS[name].encode()
        at = int(place * len(whole))
        try:
            rows, left_out = read_rows(name, SourceFile(shown, whole[:at] + put + whole[at + drop :]))
        except ConfigError as error:
            assert str(error).startswith(shown)
            return
        assert rows
        assert all(isinstance(count, int) for count in left_out.values())
