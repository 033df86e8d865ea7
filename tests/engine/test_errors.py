"""A failure crosses processes as it is."""

import copy
import pickle

import pytest

from engine.errors import EngineError, ErrorCode


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_being_copied(again: object) -> None:
    assert callable(again)
    error = EngineError(ErrorCode.INVALID_SIZE, width=65, height=48, multiple=16, nearest="64x48")
    copied = again(error)
    assert type(copied) is EngineError
    assert (copied.code, copied.details, str(copied)) == (error.code, error.details, str(error))
