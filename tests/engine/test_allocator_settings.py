"""What torch's allocators are told: our settings, and beside them whatever a user says."""

import os
import subprocess
import sys

import pytest

from engine import page_lock_variables

OURS = "pinned_max_round_threshold_mb:16,pinned_max_cached_size_mb:16"
NEW, OLDER, HIP = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"
DIVISIONS = "roundup_power2_divisions:[256:1,512:2,>:8]"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {NEW: OURS}),
        ({"PATH": "/bin"}, {NEW: OURS}),
        ({NEW: ""}, {NEW: OURS}),
        ({OLDER: "expandable_segments:True"}, {OLDER: f"expandable_segments:True,{OURS}"}),
        ({HIP: "max_split_size_mb:99"}, {HIP: f"max_split_size_mb:99,{OURS}"}),
        ({NEW: "a:1", OLDER: f"{DIVISIONS}, "}, {NEW: f"a:1,{OURS}", OLDER: f"{DIVISIONS},{OURS}"}),
        (
            {NEW: "a:1, pinned_max_cached_size_mb : 99"},
            {NEW: "a:1, pinned_max_cached_size_mb : 99,pinned_max_round_threshold_mb:16"},
        ),
        ({NEW: OURS}, {NEW: OURS}),
    ],
)
def test_what_a_user_says_stays_and_what_is_missing_is_added(own: dict[str, str], expected: dict[str, str]) -> None:
    changes = page_lock_variables(own)
    assert changes == expected
    assert page_lock_variables(own | changes) == changes  # as in a process that the first one starts


@pytest.mark.parametrize("names", [(), (NEW,), (OLDER,), (NEW, OLDER)])
def test_torch_reads_both(names: tuple[str, ...]) -> None:
    """Whichever of the variables this version of torch prefers."""
    environment = {name: value for name, value in os.environ.items() if name not in (NEW, OLDER, HIP)}
    environment |= dict.fromkeys(names, "max_split_size_mb:99")
    told = subprocess.run(
        [sys.executable, "-c", "import engine, torch; print(torch._C._accelerator_getAllocatorSettings())"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert told == ",".join([*(["max_split_size_mb:99"] if names else []), OURS])
