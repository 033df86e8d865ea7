"""Tessera's engine: turns commands into videos. Knows torch, never Qt."""

import os

# Read by torch when it is imported. Page-locked memory is else rounded up to powers of two, which for blocks of two
# thirds of a GiB is half as much again, and kept when one transformer makes room for the next.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "pinned_max_round_threshold_mb:16,pinned_max_cached_size_mb:16")
