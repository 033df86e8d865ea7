"""Compiled pieces against those that are not, and every reason for which nothing can be compiled."""

import dataclasses
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.attention.attend import sdpa
from engine.denoise.block_pieces import BlockInPieces
from engine.denoise.compiled import CompileReason, check_compile, compile_reason, compiled_pieces
from engine.denoise.streaming import Denoiser
from engine.errors import EngineError, ErrorCode
from engine.generation import SamplingSettings
from engine.model_choice import WeightForm
from engine.models.transformer import WanTransformer
from engine.weights.source import QuantFormat
from tests.engine.attention_fakes import give_card
from tests.engine.job_run import latents_of, tiny_command
from tests.engine.quantize_network import quantize_network
from tests.engine.tiny_model import TRANSFORMER

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
can_compile = pytest.mark.skipif(compile_reason(CPU) != "", reason=f"nothing to compile with: {compile_reason(CPU)}")


def velocity_of(network: WanTransformer, chunk_tokens: int, in_pieces: type[BlockInPieces] = BlockInPieces) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x, text = torch.randn(1, 8, 3, 8, 12, generator=generator), torch.randn(1, 16, 32, generator=generator)
    denoiser = Denoiser(network, lambda: network.blocks, chunk_tokens, sdpa, in_pieces)
    return denoiser.velocity(x, torch.tensor([500.0]), text)


@can_compile
@pytest.mark.slow
def test_compiled_pieces_give_the_same_velocity() -> None:
    """Two blocks and three pieces, the last one shorter: compiled twice a sublayer, and never again."""
    torch.manual_seed(0)
    network = WanTransformer(TRANSFORMER).eval().requires_grad_(False)
    plain = velocity_of(network, 30)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    pieces = compiled_pieces(CPU)
    torch.testing.assert_close(velocity_of(network, 30, pieces), plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(velocity_of(network, 17, pieces), plain, rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 8


@can_compile
@pytest.mark.slow
def test_quantised_layers_are_compiled_in_inference_mode() -> None:
    """Which whole jobs run in, and their weights are loaded in."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    with torch.inference_mode():
        network = WanTransformer(TRANSFORMER).eval().requires_grad_(False)
        quantize_network(network, QuantFormat.FP8_E4M3)
        plain = velocity_of(network, 30)
        torch.testing.assert_close(velocity_of(network, 30, compiled_pieces(CPU)), plain, rtol=1e-5, atol=1e-5)


@can_compile
@pytest.mark.slow
def test_a_job_with_compiled_blocks_of_quantised_layers(tiny_model: Path, tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain = dataclasses.replace(tiny_command(tiny_model, tmp_path), weights=WeightForm.FP8_SCALED)
    expected = latents_of(plain, tmp_path / "plain")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = dataclasses.replace(plain, sampling=SamplingSettings(compile_blocks=True))
    torch.testing.assert_close(latents_of(compiled, tmp_path / "compiled"), expected, rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before


def test_a_bundle_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert compile_reason(CPU) == compile_reason(CUDA) == CompileReason.FROZEN
    with pytest.raises(EngineError) as caught:
        compiled_pieces(CPU)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details == {
        "name": "compile_blocks", "value": True, "allowed": "False", "reason": "frozen",
    }  # fmt: skip


def test_a_compiler_and_headers_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compile_reason(CPU) == CompileReason.NO_COMPILER
    own = tmp_path / "my-compiler"
    own.write_text("#!/bin/sh\n", "utf-8")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", str(own))
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert compile_reason(CPU) == ""
    check_compile(CPU)
    (tmp_path / "Python.h").unlink()
    assert compile_reason(CPU) == CompileReason.NO_HEADERS


def test_a_card_needs_triton_and_must_not_be_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    give_card(monkeypatch, (8, 9))
    monkeypatch.setattr("engine.denoise.compiled.find_spec", lambda _: None)
    assert compile_reason(CUDA) == CompileReason.NO_TRITON
    monkeypatch.setattr("engine.denoise.compiled.find_spec", lambda _: object())
    assert compile_reason(CUDA) == compile_reason(CPU)
    give_card(monkeypatch, (6, 1))
    assert compile_reason(CUDA) == CompileReason.OLDER_CARD
    assert compile_reason(torch.device("meta")) == CompileReason.OTHER_DEVICE
