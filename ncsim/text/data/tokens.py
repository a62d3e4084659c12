"""Texts to numbers: a model's own tokeniser, at a fixed length, kept on disk by content."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, Int32

from ncsim.errors import ConfigError, DataError, reason
from ncsim.storage.files import write_atomically
from ncsim.text.data.tokenizer_files import open_tokenizer
from ncsim.text.hub import TOKENIZER_FILES, backbone_folder

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
    """The tokeniser of a model's files, which fits the model: its ids are below `vocab_size`, and it marks texts' ends.

    Args:
        source: a local folder with tokenizer.json (or vocab.txt, or vocab.json and merges.txt), or a hub id.
        length: tokens an item has, special ones included; longer items lose tokens of their longer text first.
        vocab_size: of the model. max_positions: of the model.
        revision: of a hub's model: a branch, tag or commit.

    Raises:
        ConfigError: it cannot be loaded, does not fit, or `length` is out of range.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        length: int,
        vocab_size: int,
        max_positions: int,
        revision: str | None = None,
    ) -> None:
        if type(length) is not int or not SHORTEST <= length <= max_positions:
            raise ConfigError(
                f"length={length}: allowed: {SHORTEST} to {max_positions}, the positions that the model has"
            )
        source = os.fspath(source)
        if Path(source).exists() and not Path(source).is_dir():
            raise ConfigError(f"tokenizer={source}: is a file; allowed: its folder, or a hub id")
        self.length, self._name = length, source
        opened = open_tokenizer(backbone_folder(source, revision, TOKENIZER_FILES), source)
        self._inner, self._unknown, self.notes = opened.inner, opened.unknown, opened.notes
        self._special = _check_fit(self._inner, opened.pad, source, length, vocab_size)
        self._inner.enable_truncation(length, strategy="longest_first", direction="right")
        self._inner.enable_padding(direction="right", pad_id=opened.pad, length=length)
        # What a text becomes depends on this description and on the library that follows it.
        described = self._inner.to_str() + f"\n{opened.pad} {metadata.version('tokenizers')}"
        self.digest = hashlib.sha256(described.encode()).hexdigest()

    def unknown_fraction(self, tokens: Tokens) -> float:
        """What share of the texts' tokens the vocabulary does not have; special tokens and padding do not count."""
        if self._unknown is None:
            return 0.0
        # By their numbers: RoBERTa's kinds of segment do not tell whether there are two texts.
        own = (tokens.mask > 0) & ~np.isin(tokens.ids, self._special)
        return int(((tokens.ids == self._unknown) & own).sum()) / max(int(own.sum()), 1)

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
        batch = self._inner.encode_batch(list(first) if second is None else list(zip(first, second, strict=True)))

        def array(name: str, dtype: Any) -> np.ndarray:
            return np.array([getattr(encoding, name) for encoding in batch], dtype).reshape(len(batch), self.length)

        truncated = np.asarray([bool(encoding.overflowing) for encoding in batch], bool)
        return Tokens(array("ids", np.int32), array("attention_mask", np.int8), array("type_ids", np.int8), truncated)

    def _key(self, first: Sequence[str], second: Sequence[str] | None) -> str:
        content = hashlib.sha256(f"{FORMAT} {self.digest} {self.length} {len(first)} {second is None}".encode())
        for texts in (first, second or ()):
            for text in texts:
                encoded = text.encode()
                content.update(len(encoded).to_bytes(8))
                content.update(encoded)
        return content.hexdigest()[:32]


def _check_fit(inner: Any, pad: int, source: str | Path, length: int, vocab_size: int) -> list[int]:
    """The numbers of the tokens that mark texts' ends. Raises as `Tokenizer`."""
    largest = max(pad, *inner.get_vocab().values())
    if largest >= vocab_size:
        raise ConfigError(f"tokenizer={source}: has ids up to {largest}; allowed: below the model's {vocab_size}")
    inner.no_truncation()
    inner.no_padding()
    probe = inner.encode("a", "a")
    special = probe.special_tokens_mask
    if len(special) < 3 or not special[0] or not special[-1] or not any(special[2:-2]):
        raise ConfigError(
            f"tokenizer={source}: does not put [CLS] and [SEP], or <s> and </s>, around texts; "
            "allowed: a tokeniser of the BERT family"
        )
    if length < sum(special) + 2:
        raise ConfigError(
            f"length={length}: allowed: from {sum(special) + 2}, two texts' special tokens and one of each"
        )
    return [number for number, marks in zip(probe.ids, special, strict=True) if marks]


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
        raise DataError(f"{path}: cannot be written ({reason(error)})") from None
