"""Tokens: those of the tokeniser, at a fixed length, and the same whether they were kept or not."""

import numpy as np
import pytest

from ncsim.errors import ConfigError
from ncsim.text.data.tokens import Tokenizer
from tests.support import text_sources

FIRST = ("a river on monday", "he said", "council of the river " * 4, "the council", "a")
SECOND = ("the river", "what is", "a council", "river of a council " * 4, "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    return path, text_sources.write_tokenizer(path)


def fitted(folder, length=12, **changes):
    path, size = folder
    return Tokenizer(path, **({"length": length, "vocab_size": size, "max_positions": 64} | changes))


def by_hand(path, first, second, length):
    """One item at a time, by the underlying library without truncation or padding, cut as longest-first means."""
    from tokenizers import Tokenizer as Plain

    plain = Plain.from_file(str(path / "tokenizer.json"))
    cls, sep = plain.token_to_id("[CLS]"), plain.token_to_id("[SEP]")
    one = plain.encode(first, add_special_tokens=False).ids
    two = None if second is None else plain.encode(second, add_special_tokens=False).ids
    room, kept = length - (2 if two is None else 3), (list(one), list(two or []))
    while len(kept[0]) + len(kept[1]) > room:
        kept[len(kept[1]) > len(kept[0])].pop()
    ids = [cls, *kept[0], sep]
    types = [0] * len(ids)
    if two is not None:
        ids, types = [*ids, *kept[1], sep], types + [1] * (len(kept[1]) + 1)
    padding = length - len(ids)
    cut = len(one) + len(two or []) > room
    return ids + [0] * padding, [1] * len(ids) + [0] * padding, types + [0] * padding, cut


@pytest.mark.parametrize("second", [SECOND, None])
def test_tokens_are_those_of_one_item_at_a_time(folder, second):
    tokens = fitted(folder).encode(FIRST, second, None)
    for place, first in enumerate(FIRST):
        ids, mask, types, cut = by_hand(folder[0], first, second and second[place], 12)
        assert tokens.mask[place].tolist() == mask
        assert tokens.truncated[place] == cut
        assert sorted(tokens.ids[place]) == sorted(ids) if cut else tokens.ids[place].tolist() == ids
        assert tokens.types[place].sum() == sum(types)
    assert tokens.ids.dtype == np.int32
    assert tokens.mask.dtype == tokens.types.dtype == np.int8
    assert tokens.truncated.tolist() == (
        [False, False, True, True, False] if second else [False, False, True, False, False]
    )


def test_what_was_kept_is_the_same_and_damage_is_made_good(folder, tmp_path):
    tokenizer = fitted(folder)
    made = tokenizer.encode(FIRST, SECOND, tmp_path)
    (path,) = (tmp_path / "tokens").iterdir()
    whole = path.read_bytes()
    for content in (whole, whole[:-30], whole[:40], b"", b"no archive", whole[:300] + b"\0\0\0" + whole[303:]):
        path.write_bytes(content)
        again = fitted(folder).encode(FIRST, SECOND, tmp_path)
        assert again.rebuilt == (content != whole)
        assert all(np.array_equal(a, b) for a, b in zip(made[:4], again[:4], strict=True))
        assert path.read_bytes()[:4] == b"PK\x03\x04"


def test_what_is_kept_is_found_by_content(folder, tmp_path):
    tokenizer = fitted(folder)
    tokenizer.encode(FIRST, SECOND, tmp_path)
    tokenizer.encode(("ab", "c"), None, tmp_path)
    tokenizer.encode(("a", "bc"), None, tmp_path)
    fitted(folder, length=13).encode(FIRST, SECOND, tmp_path)
    other = text_sources.write_tokenizer(tmp_path / "other", words="council river other")
    fitted((tmp_path / "other", other)).encode(FIRST, SECOND, tmp_path)
    assert len(list((tmp_path / "tokens").iterdir())) == 5
    assert tokenizer.encode(FIRST, SECOND, tmp_path).rebuilt is False
    assert len(list((tmp_path / "tokens").iterdir())) == 5


def test_objects_in_a_kept_file_are_never_unpickled(folder, tmp_path):
    tokenizer = fitted(folder)
    made = tokenizer.encode(FIRST, SECOND, tmp_path)
    (path,) = (tmp_path / "tokens").iterdir()
    objects = np.empty(len(FIRST), object)
    np.savez(path, ids=objects, mask=objects, types=objects, truncated=objects, allow_pickle=True)
    again = tokenizer.encode(FIRST, SECOND, tmp_path)
    assert again.rebuilt
    assert np.array_equal(again.ids, made.ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 65}, "length=65: allowed: 5 to 64, the positions that the model has"),
        ({"length": 4}, "length=4: allowed: 5 to 64"),
        ({"length": 8.0}, "length=8.0: allowed"),
        ({"vocab_size": 50}, r"tokenizer=.*: has ids up to \d+; allowed: below the model's 50"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        fitted(folder, **changes)


def test_wrong_tokenisers_are_one_line(folder, tmp_path):
    for source, message in (
        (tmp_path, r"tokenizer=.*: holds no tokeniser; allowed: a folder with tokenizer.json"),
        (folder[0] / "tokenizer.json", "is a file; allowed: its folder"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            fitted((source, 300))
        assert "\n" not in str(caught.value)
    for number, (missing, message) in enumerate(
        [(("[CLS]",), "does not put"), (("[PAD]",), "has no token for padding"), (("post_processor",), "does not put")]
    ):
        other = tmp_path / f"other{number}"
        size = text_sources.write_tokenizer(other, drop=missing)
        with pytest.raises(ConfigError, match=message) as caught:
            fitted((other, size))
        assert "\n" not in str(caught.value)
