"""Tessera's engine: turns commands into videos. Knows torch, never Qt."""

import os
from collections.abc import Mapping

# Page-locked memory is else rounded up to powers of two, which for blocks of two thirds of a GiB is half as much again,
# and kept when one transformer makes room for the next.
PAGE_LOCK_SETTINGS = {"pinned_max_round_threshold_mb": "16", "pinned_max_cached_size_mb": "16"}

VARIABLE = "PYTORCH_ALLOC_CONF"
OLDER_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def page_lock_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` has to change so that torch's allocators get our settings beside those of the user.

    Torch reads one variable of several, and which one depends on its version: all that the user has set get what they
    do not name.
    """
    own = {name: environment[name] for name in (VARIABLE, *OLDER_VARIABLES) if name in environment}
    return {name: _with_page_lock(settings) for name, settings in (own or {VARIABLE: ""}).items()}


def _with_page_lock(settings: str) -> str:
    """A user's "name:value,..." with those of our settings that it does not name."""
    named = {setting.partition(":")[0].strip() for setting in settings.split(",")}
    missing = [f"{name}:{value}" for name, value in PAGE_LOCK_SETTINGS.items() if name not in named]
    own = settings.strip(", ")
    return ",".join([own, *missing] if own else missing)


os.environ.update(page_lock_variables(os.environ))  # torch reads them when it is imported
