"""Configs as functions are given them: one, or several."""

from __future__ import annotations

from typing import Any

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.fields import list_of, shown
from ncsim.errors import ConfigError


def one_config(config: Any) -> EnsembleConfig:
    """The config that it is.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(config, EnsembleConfig):
        raise ConfigError(f"config: {shown(config)}; allowed: an ncsim.EnsembleConfig")
    return config


def all_configs(config: Any) -> list[EnsembleConfig]:
    """One config or several, as a list.

    Raises:
        ConfigError: something is no config, or there is none.
    """
    configs = list_of(config, [config])
    if not configs:
        raise ConfigError("config: no config; allowed: one or more")
    for each in configs:
        if not isinstance(each, EnsembleConfig):
            raise ConfigError(f"config: {shown(each)}; allowed: an ncsim.EnsembleConfig, or several")
    return configs
