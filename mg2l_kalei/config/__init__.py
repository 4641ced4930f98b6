"""A run's configuration: typed, frozen, and put together from dataclasses, YAML files and the command line."""

from mg2l_kalei.config.command_line import request
from mg2l_kalei.config.files import ConfigError, read_yaml
from mg2l_kalei.config.loading import Resolved, from_dict, load
from mg2l_kalei.config.rendering import render_help, render_sources
from mg2l_kalei.config.run_config import (
    RunConfig,
    Schema,
    deciding_settings,
    differences,
    run_dir,
    run_name,
    to_dict,
    to_yaml,
)

__all__ = [
    "ConfigError",
    "Resolved",
    "RunConfig",
    "Schema",
    "deciding_settings",
    "differences",
    "from_dict",
    "load",
    "read_yaml",
    "render_help",
    "render_sources",
    "request",
    "run_dir",
    "run_name",
    "to_dict",
    "to_yaml",
]
