"""Networks that look like Wan's and are not, or do more than Tessera: refused by name. Pure and torch-free."""

from collections.abc import Iterable, Mapping

from engine.weights.expected import Shape, TransformerSizes

# What a name of theirs begins with that Wan's own networks have not.
MARKS = {
    "vace_patch_embedding.": "VACE",
    "vace_blocks.": "VACE",
    "control_adapter.": "Wan Fun camera control",
    "casual_audio_encoder.": "Wan 2.2 S2V",
    "audio_proj.audio_proj_glob_1.": "HuMo",
    "face_adapter.": "Wan 2.2 Animate",
    "face_encoder.": "Wan 2.2 Animate",
    "ref_conv.": "Wan Fun control",
}
# Channels in and out.
OTHER_CHANNELS = {(48, 16): "Wan Fun control", (52, 16): "Wan Fun control", (32, 16): "Wan Fun camera control"}
MASK_CHANNELS = 4
# A file that holds more than one network, each behind its own prefix.
ALL_IN_ONE = ("text_encoders.", "cond_stage_model.", "first_stage_model.", "vae.")


def refuse_marked(names: Iterable[str]) -> None:
    """Raise ValueError, with its name, for a network that one of the official `names` gives away."""
    for name in names:
        for mark, network in MARKS.items():
            if name.startswith(mark):
                raise ValueError(f"{network} is not supported")
        if name.startswith(ALL_IN_ONE):
            raise ValueError("several networks in one file are not supported")


def refuse_other_transformer(sizes: TransformerSizes) -> None:
    """Raise ValueError, with its name where it has one, for a transformer that takes other channels than Wan's own.

    Those are the latents alone, or with a mask and the latents of a picture.
    """
    channels = (sizes.in_dim, sizes.out_dim)
    if channels in OTHER_CHANNELS:
        raise ValueError(f"{OTHER_CHANNELS[channels]} is not supported")
    if sizes.in_dim not in (sizes.out_dim, 2 * sizes.out_dim + MASK_CHANNELS):
        raise ValueError(f"a transformer of {sizes.in_dim} to {sizes.out_dim} channels is not supported")


def refuse_other_text_encoder(stored: Mapping[str, Shape]) -> None:
    """Raise ValueError for a T5 whose first layer's positions serve all layers; umT5 has its own in each."""
    positions = sum(name.endswith(".pos_embedding.embedding.weight") for name in stored)
    if positions == 1 and "blocks.1.norm1.weight" in stored:
        raise ValueError("T5 is not supported, only umT5, whose layers each have positions of their own")
