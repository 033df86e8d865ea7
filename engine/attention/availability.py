"""Why an attention back end cannot be used here, and the best of those that can; torch-free, safe on any thread."""

from collections.abc import Sequence
from enum import StrEnum

from engine.commands import BackendState
from engine.generation import AttentionBackend


class Reason(StrEnum):
    """Why a back end is not available; what `BackendState.detail` holds is named beside it."""

    NOT_OFFERED = "not_offered"  # by any package; the back end that comes nearest
    NOT_NVIDIA = "not_nvidia"  # nothing
    OLDER_CARD = "older_card"  # compute capabilities that its kernels are for, also of the next two
    NEWER_CARD = "newer_card"
    OTHER_CARD = "other_card"  # neither older nor newer than all of them
    WRONG_DTYPE = "wrong_dtype"  # the dtypes that it takes
    WRONG_HEAD_DIM = "wrong_head_dim"  # the channels of a head that it takes
    PACKAGE_MISSING = "package_missing"  # the package
    PACKAGE_TOO_OLD = "package_too_old"  # the package and its first version that will do
    PACKAGE_BROKEN = "package_broken"  # what it said when it was imported


def best_available(preferred: Sequence[AttentionBackend], states: Sequence[BackendState]) -> AttentionBackend:
    """The first of `preferred` that `states` say is available; torch's own where none is."""
    available = {state.backend for state in states if state.is_available}
    return next((backend for backend in preferred if backend in available), AttentionBackend.SDPA)
