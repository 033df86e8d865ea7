"""The real packages on a real card: within the stated error in the embedded model, and within the stated memory."""

import pytest
import torch
from torch import Tensor

from engine.attention.attend import sdpa
from engine.attention.backends import BACKENDS, attend_of, backend_states
from engine.attention.workspace import AttentionSize, attention_bytes
from engine.commands import EMBEDDED_MODEL
from engine.denoise.streaming import Denoiser
from engine.generation import AttentionBackend
from engine.weights.detect import find_model
from engine.weights.load import load_transformer
from tests.engine.attention_rounding import relative_rms

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
CUDA, DTYPE = torch.device("cuda"), torch.bfloat16


def skip_unless_available(backend: AttentionBackend, head_dim: int) -> None:
    state = next(each for each in backend_states(CUDA, DTYPE, head_dim) if each.backend is backend)
    if not state.is_available:
        pytest.skip(f"{backend}: {state.reason} {state.detail}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_embedded_model_stays_within_the_stated_error(backend: AttentionBackend) -> None:
    skip_unless_available(backend, head_dim=64)
    attend, errors = attend_of(backend, CUDA, DTYPE, head_dim=64), []

    def compared(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kept = k.clone()
        out = attend(q, k, v)
        assert torch.equal(k, kept)
        errors.append(relative_rms(out, sdpa(q, k, v)))
        return out

    model = load_transformer(find_model(EMBEDDED_MODEL), CUDA, DTYPE)
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 8, 9, 32, 32, generator=generator), torch.randn(1, 32, 128, generator=generator) * 0.3
    arguments = x.cuda(), torch.tensor([700.0], device=CUDA), text.cuda()
    plain = Denoiser(model, lambda: model.blocks, 256, sdpa).velocity(*arguments)
    velocity = Denoiser(model, lambda: model.blocks, 256, compared).velocity(*arguments)
    stated = BACKENDS[backend].relative_error
    assert max(errors) <= stated
    assert relative_rms(velocity, plain) <= stated


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("queries", [1024, 8192])
def test_no_more_memory_is_taken_than_stated(backend: AttentionBackend, queries: int) -> None:
    skip_unless_available(backend, head_dim=128)
    attend, size = attend_of(backend, CUDA, DTYPE), AttentionSize(heads=12, queries=queries, keys=8192, head_dim=128)
    q, k, v = (
        torch.randn(1, tokens, 12, 128, device=CUDA, dtype=DTYPE).transpose(1, 2) for tokens in (queries, 8192, 8192)
    )
    attend(q, k, v)  # what is made once for all calls is not counted
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    attend(q, k, v)
    assert torch.cuda.max_memory_allocated() - before <= attention_bytes(backend, size)
