"""Back ends against torch's own attention, through stand-ins with the packages' layouts, roundings and refusals."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.attention.attend import Attend, sdpa
from engine.attention.availability import Reason, best_available
from engine.attention.backends import BACKENDS, attend_of, backend_states
from engine.attention.packages import FLASH_ATTN, SAGE, SAGE_3, Capability, Package
from engine.commands import EMBEDDED_MODEL, BackendState
from engine.errors import EngineError, ErrorCode
from engine.generation import AttentionBackend
from engine.models import transformer_layers
from engine.models.transformer import WanTransformer
from engine.weights.detect import find_model
from engine.weights.load import load_transformer
from tests.engine.attention_fakes import FUNCTIONS, give_card, install
from tests.engine.attention_rounding import e2m1, fp4_attention, int8_fp8_attention, relative_rms

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
FP4, FP8 = AttentionBackend.SAGEATTN_3_FP4, AttentionBackend.SAGEATTN_3_FP8
ADA, BLACKWELL = (8, 9), (12, 0)
OTHERS = [backend for backend in BACKENDS if backend is not AttentionBackend.SDPA]


@pytest.fixture(autouse=True)
def fresh_imports() -> Iterator[None]:
    """What one test imports, the next one does not find."""
    yield
    for package in (FLASH_ATTN, SAGE, SAGE_3):
        sys.modules.pop(package.module, None)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All packages installed, on a card that has kernels of all of them."""
    give_card(monkeypatch, BLACKWELL)
    for package in (FLASH_ATTN, SAGE, SAGE_3):
        install(package, tmp_path / package.name, monkeypatch)


@pytest.fixture(scope="module")
def model() -> WanTransformer:
    return load_transformer(find_model(EMBEDDED_MODEL), CPU, torch.bfloat16)


def values(queries: int, keys: int, head_dim: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as a block has them: heads beside each other, seen as [B, N, ., D]; keys off centre."""
    generator = torch.Generator().manual_seed(queries)
    q, k, v = (
        torch.randn(2, tokens, 3, head_dim, generator=generator).bfloat16().transpose(1, 2)
        for tokens in (queries, keys, keys)
    )
    return q, k + 2, v + 1


def state_of(backend: AttentionBackend, dtype: torch.dtype = torch.bfloat16, head_dim: int = 128) -> BackendState:
    return next(each for each in backend_states(CUDA, dtype, head_dim) if each.backend is backend)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize(("queries", "keys"), [(256, 256), (130, 300), (1, 77)])
def test_attention_is_that_of_torch_within_the_stated_error(backend: AttentionBackend, queries: int, keys: int) -> None:
    q, k, v = values(queries, keys)
    before = [x.clone() for x in (q, k, v)]
    out = attend_of(backend, CUDA, torch.bfloat16)(q, k, v)
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    assert relative_rms(out, sdpa(q, k, v)) <= BACKENDS[backend].relative_error
    assert all(map(torch.equal, (q, k, v), before))


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (AttentionBackend.SAGEATTN, int8_fp8_attention),
        (AttentionBackend.SAGEATTN_3, partial(fp4_attention, mean_of_blocks=True)),
        (FP4, partial(fp4_attention, mean_of_blocks=False)),
    ],
)
def test_each_name_stands_for_its_own_rounding(backend: AttentionBackend, expected: Attend) -> None:
    q, k, v = values(384, 200)
    assert torch.equal(attend_of(backend, CUDA, torch.bfloat16)(q, k, v), expected(q, k, v))


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("time", [999.0, 700.0, 300.0])
def test_the_velocity_stays_within_the_stated_error(
    backend: AttentionBackend, time: float, model: WanTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of the embedded model one after the other, so errors could add up; they do not."""
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 8, 9, 32, 32, generator=generator), torch.randn(1, 32, 128, generator=generator) * 0.3
    plain = model(x, torch.tensor([time]), text)
    errors = attend_by(attend_of(backend, CUDA, torch.bfloat16, head_dim=64), monkeypatch)
    velocity = model(x, torch.tensor([time]), text)
    stated = BACKENDS[backend].relative_error
    assert len(errors) == model.config.num_layers
    assert max(errors) <= stated
    assert 0 < relative_rms(velocity, plain) <= stated


def attend_by(attend: Attend, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the video tokens of any model attend by `attend`; the errors of the calls go to the returned list."""
    errors: list[float] = []

    def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.to(v.dtype).transpose(1, 2) for x in (q, k, v))
        out = reference = sdpa(q, k, v)
        if q.shape == k.shape:
            out = attend(q, k, v)
            errors.append(relative_rms(out, reference))
        return out.transpose(1, 2).flatten(2)

    monkeypatch.setattr(transformer_layers, "attend", mixed)
    return errors


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("backend", OTHERS)
def test_what_a_kernel_raises_is_not_covered_up(backend: AttentionBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    package = BACKENDS[backend].package
    assert package is not None
    q, k, v = values(128, 128)
    broken = attend_of(backend, CUDA, torch.bfloat16)
    with pytest.raises(AssertionError, match="dtype"):
        broken(q.float(), k.float(), v.float())

    def run_out(*_: Tensor, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sys.modules[package.module], FUNCTIONS[package.module], run_out)
    with pytest.raises(torch.OutOfMemoryError):
        attend_of(backend, CUDA, torch.bfloat16)(q, k, v)


@pytest.mark.usefixtures("packages")
def test_nothing_is_imported_by_looking() -> None:
    states = backend_states(CUDA, torch.bfloat16)
    assert [state.backend for state in states] == list(AttentionBackend)
    assert [state.backend for state in states if not state.is_available] == [FP8]
    assert not {"flash_attn", "sageattention", "sageattn3"} & set(sys.modules)
    attend_of(AttentionBackend.SAGEATTN, CUDA, torch.bfloat16)
    assert "sageattention" in sys.modules
    assert not {"flash_attn", "sageattn3"} & set(sys.modules)


@pytest.mark.usefixtures("packages")
def test_eight_bits_are_offered_by_no_package() -> None:
    assert state_of(FP8) == BackendState(FP8, False, Reason.NOT_OFFERED, AttentionBackend.SAGEATTN)


CARDS = {
    (7, 5): {"flash_attn": Reason.OLDER_CARD, "sageattn": Reason.OLDER_CARD, "sageattn_3": Reason.OLDER_CARD},
    (8, 0): {"sageattn_3": Reason.OLDER_CARD},
    (8, 7): {"sageattn": Reason.OTHER_CARD, "sageattn_3": Reason.OLDER_CARD},
    (8, 9): {"sageattn_3": Reason.OLDER_CARD},
    (9, 0): {"sageattn_3": Reason.OLDER_CARD},
    (10, 0): {"sageattn": Reason.OTHER_CARD, "sageattn_3": Reason.OLDER_CARD},
    (12, 0): {},
    (12, 1): {"sageattn": Reason.NEWER_CARD, "sageattn_3": Reason.NEWER_CARD},
}


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("card", CARDS)
def test_a_card_has_the_kernels_that_the_packages_have_for_it(
    card: Capability, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_card(monkeypatch, card)
    named = (AttentionBackend.FLASH_ATTN, AttentionBackend.SAGEATTN, AttentionBackend.SAGEATTN_3)
    told = {backend: state_of(backend).reason for backend in named}
    assert {backend: reason for backend, reason in told.items() if reason} == CARDS[card]
    assert state_of(FP4).reason == state_of(AttentionBackend.SAGEATTN_3).reason


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("backend", OTHERS)
def test_what_no_kernel_takes_is_refused_before_it_is_tried(
    backend: AttentionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_of(backend, torch.float16).is_available
    wide = state_of(backend, torch.float32)
    assert (wide.reason, wide.detail) == (Reason.WRONG_DTYPE, "float16, bfloat16")
    odd = state_of(backend, head_dim=256)
    assert (odd.reason, odd.detail) == (Reason.WRONG_HEAD_DIM, "64, 128")
    assert [state.reason for state in backend_states(CPU, torch.bfloat16)[1:-2]] == [Reason.NOT_NVIDIA] * 3
    monkeypatch.setattr(torch.version, "cuda", None)  # a card of another maker is "cuda" to torch
    assert state_of(backend).reason == Reason.NOT_NVIDIA


@pytest.mark.parametrize(
    ("package", "backend"),
    [(FLASH_ATTN, AttentionBackend.FLASH_ATTN), (SAGE, AttentionBackend.SAGEATTN), (SAGE_3, FP4)],
)
def test_a_package_must_be_there_whole_and_new_enough(
    package: Package, backend: AttentionBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_card(monkeypatch, BLACKWELL)
    assert (state_of(backend).reason, state_of(backend).detail) == (Reason.PACKAGE_MISSING, package.name)
    install(package, tmp_path / "old", monkeypatch, version="0.9.post4+cu128")
    old = state_of(backend)
    assert (old.reason, old.detail) == (Reason.PACKAGE_TOO_OLD, f"{package.name} {package.oldest}")
    install(package, tmp_path / "new", monkeypatch, version=f"{package.oldest}.post2+cu128torch2.13")
    assert state_of(backend).is_available
    for needed in package.needs:
        for folder in ("old", "new"):
            (tmp_path / folder / needed / "__init__.py").unlink()
            (tmp_path / folder / needed).rmdir()
        assert (state_of(backend).reason, state_of(backend).detail) == (Reason.PACKAGE_MISSING, needed)
        (tmp_path / "new" / needed).mkdir()
        (tmp_path / "new" / needed / "__init__.py").touch()


def test_another_package_of_the_same_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth flash attention is installed as flash-attn-4 and has the module too, but not the function."""
    give_card(monkeypatch, BLACKWELL)
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert state_of(AttentionBackend.FLASH_ATTN).reason == Reason.PACKAGE_MISSING


BROKEN_SOURCES = {
    "undefined symbol": "raise ImportError('undefined symbol: _ZN3c10')\n",
    "cannot open": "raise OSError('cannot open shared object file')\n",
    "sageattn": "",
}


@pytest.mark.parametrize("words", BROKEN_SOURCES)
def test_a_package_that_cannot_be_imported_is_refused_with_what_it_said(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_card(monkeypatch, ADA)
    install(SAGE, tmp_path, monkeypatch)
    (tmp_path / "sageattention" / "__init__.py").write_text(BROKEN_SOURCES[words], "utf-8")
    with pytest.raises(EngineError) as caught:
        attend_of(AttentionBackend.SAGEATTN, CUDA, torch.bfloat16)
    assert caught.value.details["reason"] == Reason.PACKAGE_BROKEN
    assert words in str(caught.value.details["detail"])
    assert caught.value.details["allowed"] == "sdpa"


def test_a_back_end_that_is_not_here_is_refused_and_not_replaced() -> None:
    with pytest.raises(EngineError) as caught:
        attend_of(AttentionBackend.FLASH_ATTN, CPU, torch.float32)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details == {
        "name": "attention", "value": "flash_attn", "allowed": "sdpa", "reason": "not_nvidia", "detail": "",
    }  # fmt: skip
    assert attend_of(AttentionBackend.SDPA, CPU, torch.float32) is sdpa


def test_the_best_that_is_available_is_taken() -> None:
    states = (
        BackendState(AttentionBackend.SDPA, True),
        BackendState(AttentionBackend.SAGEATTN, True),
        BackendState(FP4, False, Reason.OLDER_CARD, "12.0"),
    )
    assert best_available((FP4, AttentionBackend.SAGEATTN, AttentionBackend.SDPA), states) == "sageattn"
    assert best_available((FP4, AttentionBackend.FLASH_ATTN), states) == "sdpa"


def test_four_bits_are_rounded_to_the_nearest_and_to_even_codes() -> None:
    halves = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 0.26, 0.74, 1.24, 9.0])
    expected = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 0.5, 0.5, 1.0, 6.0])
    assert torch.equal(e2m1(halves), expected)
    assert torch.equal(e2m1(-halves), -expected)
