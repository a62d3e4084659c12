"""Small made-up files in the official formats of the five data sets, and a small tokeniser, for the tests of text."""

import json
import tarfile
import zipfile

SST2 = "sentence\tlabel\n" + "".join(
    f"{text}\t{label}\n"
    for text, label in [
        ("a joy from end to end ", 1),
        ("no wit , only labored gags ", 0),
        ("a line\u2028separator is a character ", 1),
        ('a "quotation mark ', 0),
        ("dull ", 0),
        ("warm and funny ", 1),
    ]
)
SST2_DEV = "sentence\tlabel\ncharming \t1\nflat \t0\ntender \t1\n"
MRPC_HEAD = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
MRPC = MRPC_HEAD + "".join(
    f'{label}\t{n}1\t{n}2\tHe said "{n}" on Monday.\tOn Monday, he said {n}.\r\n'
    for n, label in enumerate([1, 0, 1, 1, 1], start=1)
)
MRPC_TEST = MRPC_HEAD + "1\t91\t92\tShares rose.\tShares went up.\r\n0\t93\t94\tShares fell.\tIt rained.\r\n"
COMMONSENSE = [("A", "where do birds live?", "nest sea cave oven moon"), ("C", "what burns?", "ice sand wood fog rain")]
COMMONSENSE += [("E", "what is cold?", "fire sun lava stove snow"), ("B", "what flies?", "rock kite mud log pit")]
MATH = [
    ("what is 1 + 2 ?", "a ) 3 , b ) 4 , c ) 5 , d ) 1,200 , e ) none", "a"),
    ("what is 2 + 2 ?", "['a ) 4 cm', 'b ) 4 π', 'c ) 16', \"d ) o'clock\", 'e ) 16']", "b"),
    ("what is 3 + 2 ?", "a ) a ) 3 , b ) b ) 2 , c ) c ) 5 , d ) d ) 21 , e ) e ) 28", "c"),
    ("which repeats ?", "a ) 7 , b ) 7 , c ) 8 , d ) 9 , e ) 10", "b"),
    ("which is odd ?", "a ) 7 , b ) , c ) 8 , d ) 9 , e ) 10", "a"),
]
PAWS = [(n, f"{n} river council", f"council of river {n}", n % 2) for n in range(4, 16)]
#: What each language has instead of a sentence, by id.
NOT_TRANSLATED = {"fr": {5: (True, False)}, "ko": {8: (False, True), 9: (True, True)}}


def paws(language, rows=PAWS):
    lines = ["id\tsentence1\tsentence2\tlabel"]
    for number, first, second, label in rows:
        gone = NOT_TRANSLATED.get(language, {}).get(number, (False, False))
        texts = ["NS" if missing else f"{language} {text}" for missing, text in zip(gone, (first, second), strict=True)]
        lines.append("\t".join([str(number), *texts, str(label)]))
    return "\n".join(lines) + "\n"


def commonsense(rows):
    lines = []
    for number, (answer, stem, words) in enumerate(rows):
        choices = [{"label": label, "text": text} for label, text in zip("ABCDE", words.split(), strict=True)]
        question = {"question_concept": "x", "choices": choices, "stem": stem}
        lines.append(json.dumps({"answerKey": answer, "id": f"{number:032x}", "question": question}))
    return "\n".join(lines) + "\n"


def math(rows):
    return json.dumps([{"Problem": p, "Rationale": "", "options": o, "correct": c} for p, o, c in rows], indent=4)


def official_files():
    """Content of every file by its path in a source folder."""
    files = {
        "SST-2/train.tsv": SST2,
        "SST-2/dev.tsv": SST2_DEV,
        "mrpc/msr_paraphrase_train.txt": MRPC,
        "mrpc/msr_paraphrase_test.txt": MRPC_TEST,
        "commonsense_qa/train_rand_split.jsonl": commonsense(COMMONSENSE),
        "commonsense_qa/dev_rand_split.jsonl": commonsense([("D", "what swims?", "cup hat sock fish jar")]),
        "MathQA/dev.json": math(MATH),
        "MathQA/test.json": math([("what is 9 - 1 ?", "a ) 1 , b ) 2 , c ) 8 , d ) 4 , e ) 5", "c")]),
    }
    return files | {f"x-final/{language}/dev_2k.tsv": paws(language) for language in ("en", "fr", "ja", "ko")}


def write_sources(folder, changes=None):
    """A source folder with the files unpacked. `changes` replaces content, or leaves a file out where it is None."""
    for name, content in (official_files() | (changes or {})).items():
        if content is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def pack(source, folder):
    """The same as the official archives where there are any: SST-2.zip, MathQA.zip (flat), x-final.tar.gz."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "SST-2.zip", "w") as archive:
        for path in sorted((source / "SST-2").iterdir()):
            archive.write(path, f"SST-2/{path.name}")
    with zipfile.ZipFile(folder / "MathQA.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((source / "MathQA").iterdir()):
            archive.write(path, path.name)
    with tarfile.open(folder / "x-final.tar.gz", "w:gz") as archive:
        archive.add(source / "x-final", "x-final")
    return folder


def write_tokenizer(folder, drop=(), words="council river what is the on monday he said of en fr ja ko"):
    """A small WordPiece tokeniser of the BERT family, of single characters and a few words. Gives its vocabulary's size.

    `drop` takes special tokens from it, or its "post_processor".
    """
    characters = [chr(c) for c in range(33, 127)]
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in drop]
    vocabulary = list(dict.fromkeys([*special, *words.split(), *characters, *(f"##{c}" for c in characters)]))
    folder.mkdir(parents=True, exist_ok=True)
    return _save(folder, {token: number for number, token in enumerate(vocabulary)}, drop)


def _save(folder, vocabulary, drop):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if not {"[CLS]", "[SEP]", "post_processor"} & set(drop):
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
        )
    inner.save(str(folder / "tokenizer.json"))
    named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    named = {key: token for key, token in named.items() if token not in drop}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}))
    return len(vocabulary)
