"""A tokeniser's files are run as they say, whichever they are, or refused in one line."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from ncsim.errors import ConfigError
from ncsim.text.data import tokens
from tests.support import text_sources

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "The",
    "film",
    "caf\u00e9",
    "cafe",
    "is",
    "##s",
    "##t",
    "a",
]
TEXTS = ["The Film is a cafe", "the caf\u00e9 ist", "film <user>", "\u6620\u753b is a"]


def pipeline(model, normalizer=None, pre=None, begin="[CLS]", end="[SEP]"):
    made = Tokenizer(model)
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre or pre_tokenizers.BertPreTokenizer()
    ends = [(token, made.token_to_id(token)) for token in (begin, end)]
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=f"{begin} $A {end} $B:1 {end}:1", special_tokens=ends
    )
    return made


def wordpiece(**options):
    return models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]", **options)


def opened(folder, size=64, length=40):
    return tokens.Tokenizer(folder, length=length, vocab_size=size, max_positions=64)


def ids_of(tokenizer, texts=TEXTS):
    made = tokenizer.encode(texts, None, None)
    return [row[: mask.sum()].tolist() for row, mask in zip(made.ids, made.mask, strict=True)]


def unigram():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581the", "\u2581film", *"\u2581abcdefghijklmnopqrstuvwxyz"]
    model = models.Unigram([(piece, -float(n)) for n, piece in enumerate(pieces)], unk_id=3)
    return pipeline(model, pre=pre_tokenizers.Metaspace(), begin="<s>", end="</s>")


def byte_level():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: n for n, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "th", "the"])}
    return pipeline(
        models.BPE(vocab, [("t", "h"), ("th", "e")], unk_token="<unk>"),
        pre=pre_tokenizers.ByteLevel(add_prefix_space=True), begin="<s>", end="</s>",
    )  # fmt: skip


PIPELINES = {
    "cased": lambda: pipeline(wordpiece(), normalizers.BertNormalizer(lowercase=False)),
    "accents kept": lambda: pipeline(wordpiece(), normalizers.BertNormalizer(lowercase=True, strip_accents=False)),
    "whole signs": lambda: pipeline(wordpiece(), normalizers.BertNormalizer(handle_chinese_chars=False)),
    "short words": lambda: pipeline(wordpiece(max_input_chars_per_word=3), normalizers.BertNormalizer()),
    "another prefix": lambda: pipeline(wordpiece(continuing_subword_prefix="@@"), normalizers.BertNormalizer()),
    "split at spaces": lambda: pipeline(wordpiece(), pre=pre_tokenizers.WhitespaceSplit()),
    "unigram": unigram,
    "byte level": byte_level,
}


@pytest.mark.parametrize("name", PIPELINES)
def test_tokenizer_json_is_run_as_it_says(tmp_path, name):
    made = PIPELINES[name]()
    made.save(str(tmp_path / "tokenizer.json"))
    size = made.get_vocab_size()
    assert ids_of(opened(tmp_path, size)) == [one.ids for one in made.encode_batch(TEXTS)]
    both = opened(tmp_path, size).encode(["the film", "a"], ["is a", "film"], None)
    for row, one in enumerate(made.encode_batch([("the film", "is a"), ("a", "film")])):
        assert both.ids[row, : len(one.ids)].tolist() == one.ids
        assert both.types[row, : len(one.ids)].tolist() == one.type_ids


def test_what_settings_say_otherwise_is_told(tmp_path):
    PIPELINES["cased"]().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    (note,) = opened(tmp_path).notes
    assert "do_lower_case" in note
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert opened(tmp_path).notes == ()
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for said, notes in ((True, 0), (False, 1)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": said, "do_lower_case": True}))
        found = opened(tmp_path, 300).notes
        assert len(found) == notes
        assert all("add_prefix_space (False)" in note for note in found)


def write_words(folder, settings, words=WORDS):
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_alone_is_read_as_its_settings_say(tmp_path, lower):
    write_words(tmp_path, {"do_lower_case": lower})
    wanted = pipeline(wordpiece(), normalizers.BertNormalizer(lowercase=lower))
    assert ids_of(opened(tmp_path)) == [one.ids for one in wanted.encode_batch(TEXTS)]


@pytest.mark.parametrize("space", [False, True])
def test_words_and_merges_are_read_as_robertas_own_class_reads_them(tmp_path, space):
    from transformers import RobertaTokenizer

    byte_level().model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": space}))
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    peer = RobertaTokenizer(vocab=vocabulary, merges=[("t", "h"), ("th", "e")], add_prefix_space=space)
    assert ids_of(opened(tmp_path, 300)) == peer(TEXTS)["input_ids"]
    both = opened(tmp_path, 300).encode(["the film"], ["is a"], None)
    assert both.ids[0, : both.mask[0].sum()].tolist() == peer("the film", "is a")["input_ids"]
    assert not both.types.any()


@pytest.mark.parametrize("described", [None, "<hole>", {"__type": "AddedToken", "content": "<mask>", "lstrip": True}])
def test_the_masks_name_in_a_text_is_one_token_as_robertas_own_class_has_it(tmp_path, described):
    from transformers import RobertaTokenizer

    byte_level().model.save(str(tmp_path))
    content = described if isinstance(described, str) else "<mask>"
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    vocabulary[content] = len(vocabulary)
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    if described is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": described}))
    peer = RobertaTokenizer.from_pretrained(str(tmp_path))
    texts = [f"the {content} film", content, "the < mask > film", f"a{content}the"]
    found = ids_of(opened(tmp_path, 300), texts)
    assert found == peer(texts)["input_ids"]
    assert [row.count(vocabulary[content]) for row in found] == [1, 1, 0, 1]


def test_a_mask_of_another_name_is_one_token_of_a_vocabulary(tmp_path):
    write_words(tmp_path, {"do_lower_case": True, "mask_token": "<hole>"}, [*WORDS, "<hole>"])
    assert ids_of(opened(tmp_path), ["film <hole>"]) == [[2, 7, len(WORDS), 3]]


@pytest.mark.parametrize(
    "beside",
    [
        ("added_tokens.json", {"<user>": len(WORDS)}),
        (
            "tokenizer_config.json",
            {"do_lower_case": False, "added_tokens_decoder": {str(len(WORDS)): {"content": "<user>"}}},
        ),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_tokens_that_stand_beside_the_vocabulary_are_tokens(tmp_path, beside, whole):
    write_words(tmp_path, {"do_lower_case": False})
    if whole:
        (tmp_path / "vocab.txt").unlink()
        PIPELINES["cased"]().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / beside[0]).write_text(json.dumps(beside[1]))
    assert ids_of(opened(tmp_path), ["film <user>"]) == [[2, 7, len(WORDS), 3]]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<user>": 40}))
    with pytest.raises(ConfigError, match=r"'<user>' is 40 by added_tokens\.json"):
        opened(tmp_path)


def refusals():
    yield "nothing", lambda f: None, "holds no tokeniser; allowed: a folder with tokenizer.json"
    yield "another name", lambda f: (f / "vocab-en.txt").write_text("the\n"), r"holds no tokeniser \(of vocab-en.txt"
    yield "sentencepiece", lambda f: (f / "spiece.model").write_bytes(b"x"), r"holds no tokeniser \(of spiece.model"
    yield "no merges", lambda f: (f / "vocab.json").write_text('{"a": 0}'), "vocab.json is there without merges.txt"
    yield "no case", lambda f: write_words(f, None), 'no tokenizer_config.json says whether .*"do_lower_case": false'
    yield (
        "no basic",
        lambda f: write_words(f, {"do_lower_case": True, "do_basic_tokenize": False}),
        "do_basic_tokenize is False",
    )
    yield "broken", lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"
    yield "broken settings", lambda f: write_words(f, []), "tokenizer_config.json: is no JSON object"
    yield (
        "another class",
        lambda f: write_words(f, {"tokenizer_class": "BertJapaneseTokenizer"}),
        "is a BertJapaneseTokenizer",
    )
    yield (
        "no [SEP]",
        lambda f: write_words(f, {"do_lower_case": True}, WORDS[:3] + WORDS[4:]),
        r"vocab.txt has no \[SEP\]",
    )
    yield "no words", lambda f: _special_only(f), "knows no words, only 4 special tokens"


def _special_only(folder):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = pipeline(models.WordPiece({word: n for n, word in enumerate(special)}, unk_token="[UNK]"))
    made.add_special_tokens([AddedToken(word, special=True) for word in special])
    made.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("name", "write", "message"), list(refusals()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_no_tokeniser_is_refused_in_one_line(tmp_path, name, write, message):
    write(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_share_of_unknown_tokens_is_of_the_texts_own(tmp_path):
    write_words(tmp_path, {"do_lower_case": True})
    tokenizer = opened(tmp_path)
    made = tokenizer.encode(["the film", "the \u6620"], None, None)
    assert tokenizer.unknown_fraction(made) == 1 / 4
    both = tokenizer.encode(["the film", "the \u6620"], ["a", "\u753b"], None)
    assert tokenizer.unknown_fraction(both) == 2 / 6
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").unlink()
    whole = opened(tmp_path, 300)
    assert whole.unknown_fraction(whole.encode(["\u6620\u753b"], None, None)) == 0


def test_two_texts_without_kinds_of_segment_have_their_marks_left_out(tmp_path):
    """As XLM-R numbers them: nothing but unknown words is 1, and not 2 of 4."""
    inner = Tokenizer(
        models.WordLevel(
            {word: n for n, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "the"])}, unk_token="<unk>"
        )
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = opened(tmp_path)
    assert tokenizer.unknown_fraction(tokenizer.encode(["\u6620"], ["\u753b"], None)) == 1
    assert tokenizer.unknown_fraction(tokenizer.encode(["\u6620 the"], ["the \u753b"], None)) == 1 / 2


def test_longest_texts_lose_first(tmp_path):
    size = text_sources.write_tokenizer(tmp_path)
    made = opened(tmp_path, size, 10).encode(["river " * 20], ["the council"], None)
    assert np.count_nonzero(made.types) == 3  # two words and [SEP]
    assert made.truncated.all()
