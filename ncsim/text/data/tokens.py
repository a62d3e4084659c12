"""Texts to numbers: a fast tokeniser of transformers, at a fixed length, kept on disk by content."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, Int32

from ncsim.errors import ConfigError, DataError
from ncsim.storage.files import write_atomically
from ncsim.text.data.sources import errors_only, one_line

FORMAT = 1
#: [CLS], a token of each text, and two [SEP].
SHORTEST = 5


class Encoded(NamedTuple):
    """Tokenised items. `mask` is 1 where there is a token, `types` is 1 in the second text; padding is 0 in both."""

    ids: Int32[np.ndarray, "items tokens"]
    mask: Int8[np.ndarray, "items tokens"]
    types: Int8[np.ndarray, "items tokens"]
    labels: Int8[np.ndarray, " items"]


class Tokens(NamedTuple):
    """Tokenised texts, and which of them did not fit. `rebuilt` where a damaged cache was replaced."""

    ids: Int32[np.ndarray, "items tokens"]
    mask: Int8[np.ndarray, "items tokens"]
    types: Int8[np.ndarray, "items tokens"]
    truncated: Bool[np.ndarray, " items"]
    rebuilt: bool = False


class Tokenizer:
    """A fast tokeniser that fits a model: its ids are below `vocab_size`, it has [CLS], [SEP] and [PAD] and uses them.

    Args:
        source: a local folder with tokenizer.json (or vocab.txt), or a hub id.
        length: tokens an item has, special ones included; longer items lose tokens of their longer text first.
        vocab_size: of the model. max_positions: of the model.

    Raises:
        ConfigError: it cannot be loaded, does not fit, or `length` is out of range.
    """

    def __init__(self, source: str | Path, *, length: int, vocab_size: int, max_positions: int) -> None:
        if type(length) is not int or not SHORTEST <= length <= max_positions:
            raise ConfigError(
                f"length={length}: allowed: {SHORTEST} to {max_positions}, the positions that the model has"
            )
        self.length = length
        self._inner = _loaded(source)
        _check_fit(self._inner, source, vocab_size)
        self._inner.padding_side = self._inner.truncation_side = "right"
        import tokenizers  # after transformers, which says what to install where it is missing

        # What a text becomes depends on this description and on the library that follows it.
        described = self._inner.backend_tokenizer.to_str() + f"\n{self._inner.pad_token_id} {tokenizers.__version__}"
        self.digest = hashlib.sha256(described.encode()).hexdigest()

    def encode(self, first: Sequence[str], second: Sequence[str] | None, cache_dir: Path | None) -> Tokens:
        """Tokenise texts, or pairs of texts, or read back what was made of the same ones before.

        Raises:
            DataError: the cache cannot be written to.
        """
        path = None if cache_dir is None else cache_dir / "tokens" / f"{self._key(first, second)}.npz"
        kept = path is not None and path.exists()
        if path is not None and kept:
            found = _read(path, len(first), self.length)
            if found is not None:
                return found
        made = self._encoded(first, second)
        if path is not None:
            _write(path, made)
        return made._replace(rebuilt=kept)

    def _encoded(self, first: Sequence[str], second: Sequence[str] | None) -> Tokens:
        batch = self._inner(
            list(first),
            None if second is None else list(second),
            padding="max_length",
            truncation="longest_first",
            max_length=self.length,
            return_token_type_ids=True,
            return_attention_mask=True,
            return_tensors="np",
        )
        truncated = np.asarray([bool(encoding.overflowing) for encoding in batch.encodings], bool)
        ids, mask = batch["input_ids"].astype(np.int32), batch["attention_mask"].astype(np.int8)
        return Tokens(ids, mask, batch["token_type_ids"].astype(np.int8), truncated)

    def _key(self, first: Sequence[str], second: Sequence[str] | None) -> str:
        content = hashlib.sha256(f"{FORMAT} {self.digest} {self.length} {len(first)} {second is None}".encode())
        for texts in (first, second or ()):
            for text in texts:
                encoded = text.encode()
                content.update(len(encoded).to_bytes(8))
                content.update(encoded)
        return content.hexdigest()[:32]


def _loaded(source: str | Path) -> Any:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it says that there is no torch, which is meant
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ConfigError(
            "tokenizer: needs the text extra; allowed: pip install '.[text]' in a clone of this repository"
        ) from None
    if Path(source).exists() and not Path(source).is_dir():
        raise ConfigError(f"tokenizer={source}: is a file; allowed: its folder, or a hub id")
    try:
        with errors_only("huggingface_hub", "huggingface_hub.utils._http"):
            inner = AutoTokenizer.from_pretrained(str(source), use_fast=True, trust_remote_code=False)
    except Exception as error:  # what it raises comes from several libraries, and runs over many lines
        raise ConfigError(
            f"tokenizer={source}: cannot be loaded ({one_line(error)}); allowed: a folder with tokenizer.json, or a hub id"
        ) from None
    if not inner.is_fast:
        raise ConfigError(f"tokenizer={source}: has no fast form; allowed: a folder with tokenizer.json")
    return inner


def _check_fit(inner: Any, source: str | Path, vocab_size: int) -> None:
    largest = max(inner.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise ConfigError(f"tokenizer={source}: has ids up to {largest}; allowed: below the model's {vocab_size}")
    special = {"[CLS]": inner.cls_token_id, "[SEP]": inner.sep_token_id, "[PAD]": inner.pad_token_id}
    missing = [name for name, number in special.items() if number is None or not 0 <= number < vocab_size]
    if missing:
        raise ConfigError(f"tokenizer={source}: has no {', '.join(missing)}; allowed: a tokeniser of the BERT family")
    probe = inner("a", "a")["input_ids"]
    if probe[0] != special["[CLS]"] or probe[-1] != special["[SEP]"] or probe.count(special["[SEP]"]) < 2:
        raise ConfigError(
            f"tokenizer={source}: does not put [CLS] and [SEP] around texts; allowed: a tokeniser of the BERT family"
        )


def _read(path: Path, items: int, length: int) -> Tokens | None:
    """What was kept; None where it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            tokens = Tokens(kept["ids"], kept["mask"], kept["types"], kept["truncated"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return None
    kinds = (np.int32, np.int8, np.int8, np.bool_)
    shapes = (*[(items, length)] * 3, (items,))
    whole = all(a.dtype == kind and a.shape == shape for a, kind, shape in zip(tokens[:4], kinds, shapes, strict=True))
    return tokens if whole else None


def _write(path: Path, tokens: Tokens) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=tokens.ids, mask=tokens.mask, types=tokens.types, truncated=tokens.truncated)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
