"""Networks that LoRAs have changed: merged weights, changes beside quantised ones, strengths, what stays untouched."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.errors import EngineError, ErrorCode
from engine.model_choice import LoraUse
from engine.models.quantized_linear import QuantizedLinear
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.weights.dequantize import values
from engine.weights.lora.apply import ActiveLora, apply_loras, open_loras
from engine.weights.lora.file import parse_lora
from engine.weights.lora.runtime import LoraLinear
from engine.weights.lora.use import check_uses, uses_of
from engine.weights.place import ignore
from engine.weights.provenance import Expert
from engine.weights.quantize import quantize_weight
from engine.weights.source import QuantFormat
from tests.engine.lora_cases import KINDS, checkpoint_of, expected_change, random, tensors_of
from tests.engine.quantize_network import quantize_network

CONFIG = TransformerConfig(
    dim=32, ffn_dim=64, freq_dim=16, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=4, text_dim=16
)
LAYERS = ["blocks.0.self_attn.q", "blocks.1.ffn.2", "blocks.1.cross_attn.o"]


def network() -> WanTransformer:
    torch.manual_seed(3)
    return WanTransformer(CONFIG).eval().requires_grad_(False)


SHAPES = {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}


def lora_of(tensors: dict[str, Tensor], strength: float = 1.0) -> ActiveLora:
    return ActiveLora(parse_lora(checkpoint_of(tensors), SHAPES), strength)


def several(kind: str, size: float = 0.1, alpha: float | None = 2.0) -> dict[str, Tensor]:
    """Changes of some linear layers and their biases, small beside the weights."""
    tensors: dict[str, Tensor] = {}
    for layer in LAYERS:
        parts = tensors_of(kind, layer, SHAPES[f"{layer}.weight"], alpha=alpha)
        tensors |= {name: tensor * (1 if name.endswith("alpha") else size) for name, tensor in parts.items()}
        tensors[f"{layer}.diff_b"] = random(SHAPES[f"{layer}.bias"][0]) * size
    return tensors


def with_dora(tensors: dict[str, Tensor], per_row: bool) -> dict[str, Tensor]:
    rows_and_columns = {layer: SHAPES[f"{layer}.weight"] for layer in LAYERS}
    return tensors | {
        f"{layer}.dora_scale": random(rows, 1).abs() if per_row else random(1, columns).abs()
        for layer, (rows, columns) in rows_and_columns.items()
    }


def output(model: WanTransformer) -> Tensor:
    return model(random(1, 4, 2, 4, 6), torch.tensor([500.0]), random(1, 4, 16))


def quantised(model: WanTransformer, to: QuantFormat = QuantFormat.FP8_E4M3) -> WanTransformer:
    quantize_network(model, to)
    return model


def plain_twin(model: WanTransformer) -> WanTransformer:
    """`model` with the values of its quantised weights in plain layers."""
    twin = copy.deepcopy(model)
    for name, layer in list(twin.named_modules()):
        if isinstance(layer, QuantizedLinear):
            plain = nn.Linear(layer.in_features, layer.out_features)
            state = {"weight": values(layer.stored, torch.float32), "bias": layer.bias}
            plain.load_state_dict({part: tensor for part, tensor in state.items() if tensor is not None})
            twin.set_submodule(name, plain)
    return twin.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_are_recomputed_ones(kind: str) -> None:
    model, before, tensors = network(), network().state_dict(), several(kind)
    apply_loras(model, [lora_of(tensors, 0.7)], torch.float32, ignore)
    for name, tensor in model.state_dict().items():
        layer, _, last = name.rpartition(".")
        expected = before[name].double()
        if layer in LAYERS and last == "weight":
            parts = {n: t for n, t in tensors.items() if n.startswith(layer) and not n.endswith("diff_b")}
            expected = expected + 0.7 * torch.from_numpy(expected_change(kind, parts, layer, SHAPES[name]))
        elif layer in LAYERS:
            expected = expected + 0.7 * tensors[f"{layer}.diff_b"].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=2e-6)


def test_norms_modulations_and_convolutions_are_changed_too() -> None:
    diffs = {
        "blocks.1.norm3.weight": "blocks.1.norm3.diff", "blocks.1.norm3.bias": "blocks.1.norm3.diff_b",
        "blocks.0.self_attn.norm_q.weight": "blocks.0.self_attn.norm_q.diff",
        "blocks.0.modulation": "blocks.0.diff_m", "head.modulation": "head.diff_m",
        "head.head.weight": "head.head.diff", "patch_embedding.weight": "patch_embedding.diff",
    }  # fmt: skip
    model, before = network(), network().state_dict()
    tensors = {stored: random(*SHAPES[name]) for name, stored in diffs.items()}
    apply_loras(model, [lora_of(tensors, -0.5)], torch.float32, ignore)
    for name, stored in diffs.items():
        torch.testing.assert_close(model.state_dict()[name], before[name] - 0.5 * tensors[stored])
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_untouched_parameters_stay_the_same_tensors() -> None:
    model = network()
    before = dict(model.named_parameters())
    apply_loras(model, [lora_of(several("lora"))], torch.float32, ignore)
    changed = {f"{layer}.{end}" for layer in LAYERS for end in ("weight", "bias")}
    assert {name for name, parameter in model.named_parameters() if parameter is not before[name]} == changed


@pytest.mark.parametrize("is_quantised", [False, True])
def test_strength_zero_is_no_lora(is_quantised: bool) -> None:
    model = quantised(network()) if is_quantised else network()
    expected = output(model)
    opened = open_loras([LoraUse(Path("gone"), 0.0)], SHAPES, lambda path: pytest.fail(f"{path} opened"))
    apply_loras(model, opened, torch.float32, ignore)
    assert torch.equal(output(model), expected)
    assert not any(isinstance(layer, LoraLinear) for layer in model.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_at_once_are_their_sum_rounded_once(dtype: torch.dtype) -> None:
    first, second = several("lora"), several("loha")
    exact = network()
    exact = exact.to(dtype).float()
    for active in (lora_of(first, 0.8), lora_of(second, -1.3)):
        apply_loras(exact, [active], torch.float32, ignore)
    together = network().to(dtype)
    apply_loras(together, [lora_of(first, 0.8), lora_of(second, -1.3)], dtype, ignore)
    for name, tensor in together.state_dict().items():
        assert tensor.dtype is dtype
        step = torch.finfo(dtype).eps / 2 if dtype is torch.bfloat16 else 1e-6
        torch.testing.assert_close(tensor.float(), exact.state_dict()[name], rtol=step, atol=1e-6)


def test_the_opposite_strength_takes_it_back() -> None:
    model, before = network(), network().state_dict()
    for strength in (0.6, -0.6):
        apply_loras(model, [lora_of(several("lokr_ab"), strength)], torch.float32, ignore)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["lora", "locon", "diff", "loha", "loha_tucker", "lokr", "lokr_ab", "lokr_tucker"])
@pytest.mark.parametrize("to", [QuantFormat.FP8_E4M3, QuantFormat.NVFP4])
def test_beside_quantised_layers_as_merged(kind: str, to: QuantFormat) -> None:
    model = quantised(network(), to)
    twin = plain_twin(model)
    loras = [lora_of(several(kind), 0.9), lora_of(several("lora", 0.2, alpha=None), -0.4)]
    for network_ in (model, twin):
        apply_loras(network_, loras, torch.float32, ignore)
    assert isinstance(model.get_submodule(LAYERS[0]), LoraLinear)
    assert isinstance(model.get_submodule("blocks.0.ffn.0"), QuantizedLinear)
    torch.testing.assert_close(output(model), output(twin), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "loha"])
@pytest.mark.parametrize("per_row", [True, False])
def test_dora_beside_quantised_layers_as_merged(kind: str, per_row: bool) -> None:
    """Two of them and a plain one, each a change of the weight as it was loaded."""
    model = quantised(network())
    twin = plain_twin(model)
    before = output(model)
    dora = with_dora(several(kind), per_row)
    loras = [lora_of(dora, 0.7), lora_of(several("lora"), 0.5), lora_of(with_dora(several("lokr"), True), -0.2)]
    for network_ in (model, twin):
        apply_loras(network_, loras, torch.float32, ignore)
    torch.testing.assert_close(output(model), output(twin), rtol=0, atol=1e-5)
    assert (output(model) - before).abs().max() > 1e-3


def test_factors_follow_the_device_and_stay_out_of_the_state() -> None:
    model = quantised(network())
    names = set(model.state_dict())
    apply_loras(model, [lora_of(several("lora"))], torch.float32, ignore)
    assert {name.replace(".base.", ".") for name in model.state_dict()} == names
    layer = model.get_submodule(LAYERS[0]).to("meta")
    assert {tensor.device.type for tensor in [*layer.buffers(), *layer.parameters()]} == {"meta"}


@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 64), (0, 64)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_inputs_of_any_shape_in_half_precision(shape: tuple[int, ...], has_bias: bool) -> None:
    weight, tensors = random(32, 64), tensors_of("lora", "layer", (32, 64))
    base = QuantizedLinear(quantize_weight(weight, QuantFormat.FP8_E4M3), random(32) if has_bias else None)
    delta = parse_lora(checkpoint_of(tensors), {"layer.weight": (32, 64)}).delta("layer.weight")
    x = random(*shape).to(torch.bfloat16)
    y = LoraLinear(base, [(delta, 0.5)], None, torch.bfloat16)(x)
    change = torch.from_numpy(expected_change("lora", tensors, "layer", (32, 64))).float()
    exact = base(x.float()) + 0.5 * x.float() @ change.t()
    assert (y.dtype, y.shape) == (torch.bfloat16, exact.shape)
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.5)


def test_stopping_in_the_middle() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        apply_loras(network(), [lora_of(several("lora"))], torch.float32, stop)


def test_uses_are_what_a_command_can_carry() -> None:
    uses = (
        LoraUse(Path("a"), 0.5, Expert.HIGH_NOISE),
        LoraUse(Path("b"), 1.0),
        LoraUse(Path("c"), -1.0, Expert.LOW_NOISE),
    )
    assert pickle.loads(pickle.dumps(uses)) == uses
    assert [use.path.name for use in uses_of(uses, Expert.HIGH_NOISE)] == ["a", "b"]
    assert [use.path.name for use in uses_of(uses, Expert.LOW_NOISE)] == ["b", "c"]
    check_uses(uses, has_experts=True)


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (LoraUse(Path("a"), float("nan")), "lora_strength"),
        (LoraUse(Path("a"), float("-inf")), "lora_strength"),
        (LoraUse(Path("a"), 1.0, Expert.HIGH_NOISE), "lora_expert"),
    ],
)
def test_uses_that_make_no_sense(use: LoraUse, name: str) -> None:
    with pytest.raises(EngineError) as caught:
        check_uses([use], has_experts=False)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details["name"] == name
