"""A sentence encoder as one who chooses: sentences' vectors, and the probabilities of answers that their cosines give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncsim.errors import ConfigError

#: Tokens of a sentence at most; longer ones are cut.
LENGTH = 32


def sentence_vectors(model: str | os.PathLike[str], sentences: Sequence[str], length: int = LENGTH) -> np.ndarray:
    """Vectors of sentences as sentence encoders are used: the mean of the last hidden states of the tokens, of norm 1.

    Args:
        model: a folder with a BERT's weights and its tokeniser, or a hub id.
        sentences: one or more.
        length: tokens at most, special ones included.

    Returns:
        float64[sentences, width]. Mean pooling: Reimers and Gurevych 2019 (arXiv:1908.10084).

    Raises:
        ConfigError: the model cannot be loaded, or there is no sentence.
    """
    from ncsim.text.data.tokens import Tokenizer
    from ncsim.text.model.bert import Bert
    from ncsim.text.model.checkpoint import load_backbone

    if not sentences:
        raise ConfigError("sentences: none; allowed: one or more")
    config, parameters = load_backbone(model)
    tokenizer = Tokenizer(model, length=length, vocab_size=config.vocab_size, max_positions=config.max_positions)
    tokens = tokenizer.encode(sentences, None, None)
    hidden: Any = Bert(config).apply({"params": parameters}, tokens.ids, tokens.mask, tokens.types)[0]
    mask = tokens.mask[..., None].astype(np.float64)
    means = (np.asarray(hidden, np.float64) * mask).sum(axis=1) / mask.sum(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def choice_table(cosines: Any, temperature: float) -> np.ndarray:
    """Probabilities of choosing among the answers of each context, in proportion to exp(cosine / temperature) (Luce 1959).

    At a high temperature all answers are as likely; at a low one the nearest is certain, in every context by itself.

    Args:
        cosines: of each answer with what is asked, [..., alice, bob, a, b]: settings, then outcomes.
        temperature: above 0, in units of the cosine.

    Returns:
        float64, of that shape; the last two axes add up to 1.

    Raises:
        ConfigError: another temperature.

    Example:
        >>> choice_table([[[[0.7, 0.7], [0.7, 0.7 - 0.1]]]], 0.1)[0, 0].round(3).tolist()
        [[0.297, 0.297], [0.297, 0.109]]
    """
    if not temperature > 0 or not np.isfinite(temperature):
        raise ConfigError(f"temperature: {temperature}; allowed: a finite number above 0")
    values = np.asarray(cosines, np.float64)
    weights = np.exp((values - values.max(axis=(-2, -1), keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=(-2, -1), keepdims=True))
