"""Loading block by block: the same values as loading whole, by block as many bytes as foretold, nothing held twice."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.decode.room import RoomInFiles, room_in_memory
from engine.errors import EngineError, ErrorCode
from engine.memory.block_swap import swapped_blocks
from engine.memory.simulate import LiveStorages
from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.models.transformer import WanTransformer
from engine.weights.card import QUANTIZED_FORMS, NetworkBytes, network_bytes, stays_in_files
from engine.weights.configs import image_encoder_config, shapes_of
from engine.weights.dequantize import WORK_BYTES
from engine.weights.detect import ModelFiles, find_model
from engine.weights.expected import image_encoder_shapes, transformer_shapes
from engine.weights.families import TRANSFORMERS, VIT_H, Role
from engine.weights.known import (
    known_families,
    known_image_encoder,
    known_network,
    known_text_encoder,
    known_transformer,
    known_vae,
)
from engine.weights.load import load_transformer
from engine.weights.load_swapped import (
    Residence,
    TransformerLoading,
    load_swapped_image_encoder,
    load_swapped_text_encoder,
    load_swapped_transformer,
    transformer_network_bytes,
)
from engine.weights.provenance import Expert
from engine.weights.quantize_file import quantize_file
from engine.weights.whole import describe, open_network
from tests.engine.lora_cases import tensors_of
from tests.engine.manifests import in_dtype
from tests.engine.sparse_files import write_sparse
from tests.engine.tiny_model import TRANSFORMER, build_tiny_model

CPU = torch.device("cpu")
LAYERS = 5
WIDE = dataclasses.replace(TRANSFORMER, num_layers=LAYERS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return find_model(build_tiny_model(tmp_path_factory.mktemp("tiny") / "model", WIDE))


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoraUse, ...]:
    """Changes of every kind, of blocks and of the shell, by one LoRA and by two together."""
    folder = tmp_path_factory.mktemp("loras")
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in WanTransformer(WIDE).named_parameters()}

    def change(kind: str, layer: str) -> dict[str, Tensor]:
        return tensors_of(kind, layer, shapes[f"{layer}.weight"])

    one = change("lora", "blocks.0.self_attn.q") | change("loha", "blocks.2.ffn.0")
    one |= change("lora", "text_embedding.0") | {"blocks.0.self_attn.q.diff_b": torch.randn(WIDE.dim)}
    two = change("lora", "blocks.0.self_attn.q") | change("lokr", "blocks.3.ffn.2") | change("diff", "blocks.4.ffn.0")
    two["blocks.0.self_attn.q.dora_scale"] = torch.rand(WIDE.dim, 1)
    two |= change("lora", "blocks.1.cross_attn.k") | {"blocks.1.cross_attn.k.dora_scale": torch.rand(1, WIDE.dim)}
    two |= change("loha", "blocks.1.cross_attn.v") | {"blocks.1.cross_attn.v.dora_scale": torch.rand(WIDE.dim, 1)}
    for name, tensors in (("one", one), ("two", two)):
        save_file(tensors, folder / f"{name}.safetensors")
    return LoraUse(folder / "one.safetensors", 0.7), LoraUse(folder / "two.safetensors", -0.4)


def velocity(network: WanTransformer) -> Tensor:
    torch.manual_seed(1)
    latents, text = torch.randn(1, WIDE.in_dim, 2, 4, 4), torch.randn(1, WIDE.text_len, WIDE.text_dim)
    return network(latents, torch.tensor([500.0]), text)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, persistent or not."""
    return dict(module.named_parameters()) | dict(module.named_buffers(remove_duplicate=False))


def bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in tensors(module).values())


@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("with_loras", [False, True])
@pytest.mark.parametrize("resident", [0, 2])
def test_values_are_those_of_loading_whole(
    files: ModelFiles, loras: tuple[LoraUse, ...], form: WeightForm, with_loras: bool, resident: int
) -> None:
    loading = TransformerLoading(form, loras if with_loras else ())
    whole = load_transformer(files, CPU, torch.float32, form=form, loras=loading.loras)
    loaded = load_swapped_transformer(files, CPU, torch.float32, loading=loading, residence=Residence(resident))
    expected, found = tensors(whole), tensors(loaded.network)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name].flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)), name
    for block, other in zip(loaded.swap.walk(), whole.blocks, strict=True):
        assert all(map(torch.equal, tensors(block).values(), tensors(other).values()))
    loaded.swap.close()
    assert torch.equal(velocity(loaded.network), velocity(whole))
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("with_loras", [False, True])
def test_bytes_of_every_block_are_foretold(
    files: ModelFiles, loras: tuple[LoraUse, ...], form: WeightForm, with_loras: bool, dtype: torch.dtype
) -> None:
    uses = loras if with_loras else ()
    foretold = transformer_network_bytes(files, dtype, form, uses)
    network = load_transformer(files, CPU, dtype, form=form, loras=uses)
    blocks = tuple(map(bytes_of, network.blocks))
    assert foretold.blocks == blocks
    assert foretold.host == bytes_of(network.time_projection)
    assert foretold.shell == bytes_of(network) - sum(blocks) - foretold.host
    assert (foretold.work >= WORK_BYTES) is (form is not WeightForm.STORED)
    assert (foretold.loading > 0) is (with_loras or form is not WeightForm.STORED)


@pytest.mark.parametrize("to", [WeightForm.FP8_SCALED, WeightForm.FP4_SCALED])
@pytest.mark.parametrize("form", list(WeightForm))
def test_bytes_of_files_that_are_quantised_already(tmp_path: Path, to: WeightForm, form: WeightForm) -> None:
    """As they are stored, and made smaller still."""
    files = find_model(build_tiny_model(tmp_path / "model", WIDE))
    opened = open_network(files.transformer, Role.TRANSFORMER)
    made = tmp_path / "made.safetensors"
    quantize_file(opened.checkpoint, opened.description.sources, QUANTIZED_FORMS[to], made)
    made.replace(files.transformer[0])
    network = load_transformer(files, CPU, torch.bfloat16, form=form)
    foretold = transformer_network_bytes(files, torch.bfloat16, form, ())
    assert foretold.blocks == tuple(map(bytes_of, network.blocks))
    assert foretold.total == bytes_of(network)


def test_text_encoder(files: ModelFiles) -> None:
    loaded = load_swapped_text_encoder(files, CPU, torch.bfloat16, residence=Residence(0))
    foretold = network_bytes(describe(files.text_encoder, Role.TEXT_ENCODER), WeightForm.STORED, 2)
    assert foretold.blocks == tuple(map(bytes_of, loaded.network.blocks))
    assert foretold.host == bytes_of(loaded.network.token_embedding)
    assert foretold.shell == bytes_of(loaded.network.norm)
    loaded.swap.close()


def test_image_encoder(tmp_path: Path) -> None:
    sizes = dataclasses.replace(VIT_H, dim=160, dim_ffn=64, num_layers=3, tokens=5, embed_dim=16)
    file = tmp_path / "clip.safetensors"
    write_sparse(file, in_dtype(image_encoder_shapes(sizes), "F16"))
    loaded = load_swapped_image_encoder((file,), CPU, torch.bfloat16, residence=Residence(1))
    foretold = network_bytes(describe((file,), Role.IMAGE_ENCODER), WeightForm.STORED, 2)
    assert image_encoder_config((file,)).num_layers == len(foretold.blocks) == 2  # the last is not run
    assert foretold.blocks == tuple(map(bytes_of, loaded.network.visual.transformer))
    assert foretold.total == bytes_of(loaded.network)
    loaded.swap.close()


def test_each_expert_has_its_file_and_its_loras(tmp_path: Path, loras: tuple[LoraUse, ...]) -> None:
    high, low = (build_tiny_model(tmp_path / name, WIDE) for name in ("high", "low"))
    first, second = (folder / "diffusion_pytorch_model.safetensors" for folder in (high, low))
    torch.manual_seed(3)
    save_file({name: value.contiguous() for name, value in WanTransformer(WIDE).state_dict().items()}, second)
    files = find_model(high, ModelParts(low_noise=second))
    uses = (loras[0], dataclasses.replace(loras[1], expert=Expert.LOW_NOISE))
    alone = {
        Expert.HIGH_NOISE: load_transformer(find_model(high), CPU, torch.float32, loras=loras[:1]),
        Expert.LOW_NOISE: load_transformer(find_model(low), CPU, torch.float32, loras=loras),
    }
    for expert, expected in alone.items():
        loading = TransformerLoading(loras=uses, expert=expert)
        loaded = load_swapped_transformer(files, CPU, torch.float32, loading=loading, residence=Residence(1))
        assert all(map(torch.equal, tensors(loaded.network).values(), tensors(expected).values()))
        foretold = transformer_network_bytes(files, torch.float32, WeightForm.STORED, uses, expert)
        assert foretold.total == bytes_of(expected)
        loaded.swap.close()
    assert first != second


def test_one_block_is_twice_in_memory_and_no_more(files: ModelFiles, tmp_path: Path) -> None:
    """Converted blocks; those that need no conversion stay in their file."""
    storages = LiveStorages()
    with storages:
        loaded = load_swapped_transformer(files, CPU, torch.bfloat16, residence=Residence(0))
        block = max(map(bytes_of, loaded.network.blocks))
        total = bytes_of(loaded.network)
        assert storages.peak["cpu"] <= total + 5 * block  # two slots, the block being loaded, and its rounding
        loaded.swap.close()
    kept = load_swapped_transformer(files, CPU, torch.float32, residence=Residence(0, RoomInFiles(tmp_path)))
    assert all(not p.untyped_storage().resizable() for p in kept.network.blocks.parameters())
    assert not [*tmp_path.iterdir()]
    kept.swap.close()


def test_reading_is_told_once_for_the_whole_network(files: ModelFiles) -> None:
    seen: list[tuple[int, int]] = []
    loaded = load_swapped_transformer(
        files, CPU, torch.float32, lambda done, total: seen.append((done, total)), residence=Residence(2)
    )
    loaded.swap.close()
    told = [(done, total) for done, total in seen if total]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]


def test_a_cancel_leaves_between_two_blocks(files: ModelFiles) -> None:
    def stop(done: int, total: int) -> None:
        if total and done > total // 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        load_swapped_transformer(files, CPU, torch.float32, stop, residence=Residence(0))


def test_known_networks_are_those_of_real_files(tmp_path: Path) -> None:
    """A file with the tensors of each says the same of itself, but for where it lies."""
    for sizes, name in TRANSFORMERS.items():
        file = tmp_path / f"{name}.safetensors"
        write_sparse(file, in_dtype(transformer_shapes(sizes)))
        real, known = describe((file,), Role.TRANSFORMER), known_network(name)
        assert shapes_of(real) == shapes_of(known)
        for form in WeightForm:
            assert network_bytes(real, form, 2) == network_bytes(known, form, 2)
        file.unlink()


@pytest.mark.parametrize("to", [WeightForm.FP8_SCALED, WeightForm.FP4_SCALED])
@pytest.mark.parametrize("name", ["wan2.1_t2v_1.3B", "wan2.1_i2v_14B", "umt5_xxl"])
def test_known_forms_take_what_the_stored_take(tmp_path: Path, name: str, to: WeightForm) -> None:
    """A file of the known tensors is recognised as what is known, and takes as much."""
    known = known_network(name, to)
    file = tmp_path / "model.safetensors"
    write_sparse(file, {stored: (info.dtype, info.shape) for stored, info in known.header.items()})
    real = describe((file,), known.role)
    assert network_bytes(real, WeightForm.STORED, 2) == network_bytes(known, WeightForm.STORED, 2)
    assert real.bytes_on_disk == known.bytes_on_disk


def test_sizes_of_known_networks_fit_their_tensors() -> None:
    with torch.device("meta"):
        network = WanTransformer(known_transformer("wan2.2_ti2v_5B"))
    expected = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert expected == shapes_of(known_network("wan2.2_ti2v_5B"))
    assert known_transformer("wan2.1_t2v_1.3B").num_heads == 12
    assert known_text_encoder().num_layers == len(network_bytes(known_network("umt5_xxl"), WeightForm.STORED, 2).blocks)
    clip = network_bytes(known_network("clip_vit_h"), WeightForm.STORED, 2)
    assert known_image_encoder().num_layers == len(clip.blocks)
    assert known_vae("wan2.2_vae").z_dim == 48
    assert set(known_families()) >= {"wan2.2_t2v_A14B", "wan2.1_flf2v_14B", "wan2.1_vae"}


@pytest.mark.parametrize(("name", "form"), [("wan9", "bf16"), ("umt5_xxl", "int8"), ("wan2.1_vae", "fp8_scaled")])
def test_what_is_not_known_is_refused_with_what_is(name: str, form: str) -> None:
    with pytest.raises(EngineError) as caught:
        known_network(name, form)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert "wan2.1_t2v_14B" in str(caught.value.details["allowed"]) or "bf16" in str(caught.value.details["allowed"])


def test_the_figures_of_a_network_add_up() -> None:
    assert NetworkBytes(3, (1, 2), 7, host=4).total == 10
    assert swapped_blocks(LAYERS, LAYERS) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", list(WeightForm))
def test_blocks_wait_in_their_files_where_nothing_is_made_of_them(
    files: ModelFiles, form: WeightForm, dtype: torch.dtype
) -> None:
    """What is said from the headers, against the memory that loaded blocks really lie in."""
    name = {torch.float32: "F32", torch.bfloat16: "BF16"}[dtype]
    loading = TransformerLoading(form)
    loaded = load_swapped_transformer(files, CPU, dtype, loading=loading, residence=Residence(0, room_in_memory))
    tensors = [tensor for block in loaded.network.blocks for tensor in block.state_dict().values()]
    is_mapped = not any(tensor.untyped_storage().resizable() for tensor in tensors)
    assert stays_in_files(describe(files.transformer, Role.TRANSFORMER), form, name) is is_mapped
    assert is_mapped is (form is WeightForm.STORED and dtype is torch.float32)
    loaded.swap.close()
