"""What is known of a job before anything is loaded: the model's sizes, the clip's sizes, and how it will be decoded."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from engine.commands import DecodeSettings
from engine.decode.plan import DecodePlan, plan
from engine.device import Device, free_bytes, free_host_bytes
from engine.errors import EngineError, ErrorCode
from engine.model_choice import ModelParts
from engine.models.transformer import TransformerConfig
from engine.models.video_vae import VideoVaeConfig
from engine.sampling.validation import check_frames, check_size
from engine.weights.complete import OFFICIAL_VAES
from engine.weights.configs import vae_config
from engine.weights.detect import NO_PARTS, ModelFiles, VaeFiles, find_model, find_vae
from engine.weights.transformer_config import transformer_config

# The convolution library's workspace and other programs' growth come on top of the planned tensors.
SHARE_OF_FREE_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class Decoder:
    """The VAE of a model; its headers have been read."""

    files: VaeFiles
    vae: VideoVaeConfig

    def file_names(self) -> dict[str, str]:
        """The files of every network by name, for the record."""
        return {"vae": _names(self.files.vae)}


@dataclass(frozen=True, slots=True)
class Model:
    """A model whose headers have been read."""

    files: ModelFiles
    transformer: TransformerConfig
    vae: VideoVaeConfig

    @property
    def size_multiple(self) -> int:
        """What pixel sides must be multiples of."""
        return multiple_of(self.vae, self.transformer)

    @property
    def decoder(self) -> Decoder:
        """The part that decodes."""
        return Decoder(self.files, self.vae)

    def file_names(self) -> dict[str, str]:
        """The files of every network by name, for the record."""
        files = self.files
        networks = {
            "transformer": files.transformer,
            "low_noise": files.low_noise,
            "text_encoder": files.text_encoder,
            "image_encoder": files.image_encoder,
        }
        return {**{name: _names(of) for name, of in networks.items() if of is not None}, **self.decoder.file_names()}


def _names(files: tuple[Path, ...]) -> str:
    return ", ".join(file.name for file in files)


def multiple_of(vae: VideoVaeConfig, transformer: TransformerConfig) -> int:
    """What the sides of what is sampled are multiples of, in pixels."""
    return vae.spatial_factor * max(transformer.patch_size[1:])


def open_model(folder: Path, parts: ModelParts = NO_PARTS) -> Model:
    """The model in `folder`, or of the transformer in a file, with its `parts`.

    Raises MODEL_NOT_FOUND and MODEL_INVALID, also when its parts do not fit together.
    """
    files = find_model(folder, parts)
    model = Model(files, transformer_config(files), vae_config(files))
    if model.transformer.out_dim != model.vae.z_dim:
        channels = model.transformer.out_dim
        reason = f"it makes {channels} latent channels, the VAE {_names(files.vae)} takes {model.vae.z_dim}"
        if channels in OFFICIAL_VAES:
            reason += f"; look for {OFFICIAL_VAES[channels]}"
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(files.transformer[0]), reason=reason)
    return model


def open_decoder(folder: Path, parts: ModelParts = NO_PARTS) -> Decoder:
    """The VAE of the model in `folder`, or in a file. Raises MODEL_NOT_FOUND and MODEL_INVALID."""
    files = find_vae(folder, parts)
    return Decoder(files, vae_config(files))


@dataclass(frozen=True, slots=True)
class Clip:
    """`shape` is that of the latents, [1, z, T, h, w]."""

    vae: VideoVaeConfig
    shape: tuple[int, ...]

    @classmethod
    def of_pixels(cls, vae: VideoVaeConfig, multiple: int, size: tuple[int, int], frames: int) -> "Clip":
        """A clip of `size` (width, height) in pixels. Raises INVALID_SIZE and INVALID_FRAMES."""
        width, height = size
        check_size(width, height, multiple)
        check_frames(frames, vae.temporal_factor)
        rows, columns = height // vae.spatial_factor, width // vae.spatial_factor
        return cls(vae, (1, vae.z_dim, vae.latent_frames(frames), rows, columns))

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        frames, rows, columns = self.shape[2:]
        return frames, rows, columns

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return self.vae.frames(self.shape[2])

    @property
    def height(self) -> int:
        """Rows of a frame in pixels."""
        return self.shape[3] * self.vae.spatial_factor

    @property
    def width(self) -> int:
        """Columns of a frame in pixels."""
        return self.shape[4] * self.vae.spatial_factor


def plan_on(device: Device, clip: Clip, settings: DecodeSettings, folder: Path) -> DecodePlan:
    """The plan to decode `clip` on `device`: in the budget asked for, else in most of what is free.

    Caches that host memory cannot hold may go to files in `folder`. A CPU has one memory for both sides of the plan.
    Raises NO_PLAN_FITS and INVALID_SETTING.
    """
    one_memory = device.torch_device.type == "cpu"
    if settings.budget_bytes is None:
        settings = replace(settings, budget_bytes=int(free_bytes(device) * SHARE_OF_FREE_MEMORY))
    return plan(
        clip.latent_size,
        clip.vae,
        device.vae_dtype,
        settings,
        int(free_host_bytes() * SHARE_OF_FREE_MEMORY),
        file_bytes_available=int(free_disk_bytes(folder) * SHARE_OF_FREE_MEMORY),
        one_memory=one_memory,
    )


def free_disk_bytes(folder: Path) -> int:
    """What is free on the disk that `folder` lies on or will lie on; 0 where nobody can tell."""
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    if there is None:
        return 0
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return 0
