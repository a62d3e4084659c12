"""A tokeniser's files, run as they say or refused.

tokenizer.json holds the whole pipeline (normaliser, splitting, model, special tokens) and is run by the library that
wrote it, `tokenizers`. Older folders hold a vocabulary alone (vocab.txt; or vocab.json with merges.txt), which that
library's own BERT and byte-level pipelines run. transformers is not asked: from version 5 on it makes a BERT's pipeline
from the words of any tokenizer.json, and a tokeniser of five words where there is none (5.23).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ncsim.errors import ConfigError, one_line
from ncsim.text.json_files import json_object

WHOLE, SETTINGS, ADDED = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
#: Files of a vocabulary, by the one that numbers the words.
VOCABULARIES = {"vocab.txt": (), "vocab.json": ("merges.txt",)}
#: Settings of a BERT's normaliser and of a byte-level splitting, by their names in tokenizer.json and in tokenizer_config.json.
_STEPS = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
    "add_prefix_space": "add_prefix_space",
}
_ALLOWED = "allowed: a folder with tokenizer.json, vocab.txt, or vocab.json and merges.txt"


class OpenedTokenizer(NamedTuple):
    """A pipeline ready to run."""

    inner: Any  # tokenizers.Tokenizer
    pad: int  # id that fills items up
    unknown: int | None  # id of what the vocabulary does not have; None where every text has tokens of its own
    notes: tuple[str, ...]  # what a reader should know: files that contradict each other


def open_tokenizer(folder: Path, name: str | Path) -> OpenedTokenizer:
    """The tokeniser of a folder.

    Args:
        folder: a local folder with the files.
        name: what to call it in messages.

    Raises:
        ConfigError: there is none, it cannot be read, or what the files say cannot be run as they say it.
    """
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            "tokenizer: needs the text extra; allowed: pip install '.[text]' in a clone of this repository"
        ) from None
    settings = json_object(folder / SETTINGS)
    if (folder / WHOLE).is_file():
        try:
            inner = tokenizers.Tokenizer.from_file(str(folder / WHOLE))
        except Exception as error:  # the library raises a bare Exception
            raise ConfigError(f"tokenizer={name}: {WHOLE} cannot be read ({one_line(error)}); {_ALLOWED}") from None
        notes = _contradictions(inner, settings)
    else:
        inner, notes = _from_vocabulary(folder, name, settings), ()
    _add_tokens(inner, folder, name, settings)
    vocabulary = inner.get_vocab()
    pad = _special(inner, folder, name, settings, "pad_token", ("[PAD]", "<pad>"))
    if pad is None:
        raise ConfigError(f"tokenizer={name}: has no token for padding; allowed: pad_token in {SETTINGS}, or [PAD]")
    if len(vocabulary) <= len(inner.get_added_tokens_decoder()):
        raise ConfigError(f"tokenizer={name}: knows no words, only {len(vocabulary)} special tokens; {_ALLOWED}")
    return OpenedTokenizer(inner, pad, _unknown(inner), notes)


def _from_vocabulary(folder: Path, name: str | Path, settings: Mapping[str, Any]) -> Any:
    """The pipeline of a vocabulary as BERT's authors, or RoBERTa's, run it."""
    file = next((file for file in VOCABULARIES if (folder / file).is_file()), None)
    if file is None:
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        seen = [n for n in there if n.endswith((".model", ".txt", ".codes", ".vocab")) or "vocab" in n or "token" in n]
        known = f" (of {', '.join(seen)} none is a tokeniser by itself)" if seen else ""
        raise ConfigError(
            f"tokenizer={name}: holds no tokeniser{known}; {_ALLOWED}, as the tokeniser's save_pretrained writes"
        )
    missing = [other for other in VOCABULARIES[file] if not (folder / other).is_file()]
    if missing:
        raise ConfigError(f"tokenizer={name}: {file} is there without {', '.join(missing)}; {_ALLOWED}")
    kind = str(settings.get("tokenizer_class") or _CLASSES[file][0]).removesuffix("Fast")
    if kind not in _CLASSES[file]:
        raise ConfigError(
            f"tokenizer={name}: is a {kind}, which {file} alone does not say; allowed: a folder with {WHOLE}"
        )
    words = _words(folder / file, name)
    special = {key: _content(settings.get(key)) or usual for key, usual in _SPECIAL[file].items()}
    lost = [token for token in special.values() if token not in words]
    if lost:
        raise ConfigError(f"tokenizer={name}: its {file} has no {', '.join(lost)}; allowed: a folder with {WHOLE}")
    try:
        return _PIPELINES[file](folder, words, special, name, settings)
    except ConfigError:
        raise
    except Exception as error:  # the library raises a bare Exception
        raise ConfigError(f"tokenizer={name}: {file} cannot be read ({one_line(error)}); {_ALLOWED}") from None


def _wordpiece(
    folder: Path, words: dict[str, int], special: Mapping[str, str], name: str | Path, settings: Mapping[str, Any]
) -> Any:
    from tokenizers.implementations import BertWordPieceTokenizer

    if settings.get("do_basic_tokenize") is False:
        raise ConfigError(f"tokenizer={name}: do_basic_tokenize is False; allowed: true, or a folder with {WHOLE}")
    _check_case(words, name, settings)
    return BertWordPieceTokenizer(
        words, unk_token=special["unk_token"], sep_token=special["sep_token"], cls_token=special["cls_token"],
        pad_token=special["pad_token"], mask_token=_content(settings.get("mask_token")) or "[MASK]",
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True), strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )._tokenizer  # fmt: skip


def _byte_level(
    folder: Path, words: dict[str, int], special: Mapping[str, str], name: str | Path, settings: Mapping[str, Any]
) -> Any:
    from tokenizers import processors
    from tokenizers.implementations import ByteLevelBPETokenizer

    space = bool(settings.get("add_prefix_space", False))
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    made = ByteLevelBPETokenizer.from_file(*files, add_prefix_space=space)
    made._tokenizer.model.unk_token = special["unk_token"]
    # A text may have the mask's name in it, which is one token then, as in the pipeline of BERT.
    named = {**special, "mask_token": _content(settings.get("mask_token")) or "<mask>"}
    made.add_special_tokens([_added(settings.get(key), token) for key, token in named.items() if token in words])
    end, begin = ((special[key], words[special[key]]) for key in ("sep_token", "cls_token"))
    made._tokenizer.post_processor = processors.RobertaProcessing(end, begin, add_prefix_space=space)
    return made._tokenizer


#: By a vocabulary's file: how it is run, what calls itself so, and its special tokens where nothing else is said.
_PIPELINES = {"vocab.txt": _wordpiece, "vocab.json": _byte_level}
_CLASSES = {
    "vocab.txt": ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "PreTrainedTokenizer"),
    "vocab.json": ("RobertaTokenizer", "PreTrainedTokenizer"),
}
_SPECIAL = {
    "vocab.txt": {"unk_token": "[UNK]", "sep_token": "[SEP]", "cls_token": "[CLS]", "pad_token": "[PAD]"},
    "vocab.json": {"unk_token": "<unk>", "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>"},
}


def _content(token: Any) -> str | None:
    """A special token as settings name it: a text, or a table with its content."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _added(described: Any, content: str) -> Any:
    """A special token with what settings say of the spaces beside it."""
    import tokenizers

    known = ("single_word", "lstrip", "rstrip", "normalized")
    told = described if isinstance(described, dict) else {}
    return tokenizers.AddedToken(content, special=True, **{key: told[key] for key in known if key in told})


def _words(file: Path, name: str | Path) -> dict[str, int]:
    """A vocabulary's words and their numbers."""
    if file.suffix == ".json":
        return json_object(file)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer={name}: {file.name} cannot be read ({one_line(error)})") from None
    return {line.rstrip("\r"): number for number, line in enumerate(lines) if line.rstrip("\r")}


def _check_case(words: Mapping[str, int], name: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse to guess whether capitals are kept: transformers lower-cases where nothing is said."""
    cased = next((word for word in words if word.lower() != word and not word.startswith(("[", "<"))), None)
    if cased is not None and "do_lower_case" not in settings:
        raise ConfigError(
            f"tokenizer={name}: its vocab.txt has words with capitals, as {cased!r}, and no {SETTINGS} says whether texts "
            'keep theirs; allowed: a tokenizer_config.json with {"do_lower_case": false} or true'
        )


def _differs(inner: Any, ours: str, said: Any) -> bool:
    """Whether a pipeline does otherwise than tokenizer_config.json says; what has no such setting does not."""
    found = getattr(inner.normalizer, ours, getattr(inner.pre_tokenizer, ours, said))
    return said is not None and found is not None and bool(found) != bool(said)


def _contradictions(inner: Any, settings: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"the tokeniser follows {WHOLE}; {SETTINGS} says otherwise of {theirs} ({settings[theirs]})"
        for ours, theirs in _STEPS.items()
        if theirs in settings and _differs(inner, ours, settings[theirs])
    )


def _add_tokens(inner: Any, folder: Path, name: str | Path, settings: Mapping[str, Any]) -> None:
    """Add the tokens that stand beside the pipeline, with the numbers that they have there."""
    import tokenizers

    more: dict[int, Any] = {}
    for content, number in json_object(folder / ADDED).items():
        more[number] = tokenizers.AddedToken(content, normalized=False)
    for number, described in (settings.get("added_tokens_decoder") or {}).items():
        if isinstance(described, dict) and str(number).isdigit():
            known = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
            more[int(number)] = tokenizers.AddedToken(**{key: described[key] for key in known if key in described})
    for number, token in sorted(more.items()):
        if inner.token_to_id(token.content) is None:
            inner.add_tokens([token])
        if inner.token_to_id(token.content) != number:
            raise ConfigError(
                f"tokenizer={name}: {token.content!r} is {number} by {ADDED} or {SETTINGS}, and "
                f"{inner.token_to_id(token.content)} by the vocabulary; allowed: files that agree"
            )


def _special(
    inner: Any, folder: Path, name: str | Path, settings: Mapping[str, Any], key: str, usual: tuple[str, ...]
) -> int | None:
    """The number of a special token: as the files name it, or under its usual names."""
    named = [settings.get(key), json_object(folder / "special_tokens_map.json").get(key)]
    for content in (*map(_content, named), *usual):
        number = None if content is None else inner.token_to_id(content)
        if number is not None:
            return int(number)
    return None


def _unknown(inner: Any) -> int | None:
    """The number that stands for what the vocabulary lacks, as the model inside says."""
    model = json.loads(inner.to_str())["model"]
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else inner.token_to_id(token)
