"""The road from prompt to latents written plainly: whole networks, one loop, nothing of the job's own code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.commands import GenerateVideo
from engine.models.image_encoder import ImageEncoder, ImageEncoderConfig, clip_picture
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.sampling.schedule import Schedule, unipc_schedule
from engine.sampling.solvers import Past, Step, unipc_step


def whole_transformer(file: Path, config: TransformerConfig) -> WanTransformer:
    network = WanTransformer(config)
    network.load_state_dict({name: value.float() for name, value in load_file(file).items()}, strict=True)
    return network.eval().requires_grad_(requires_grad=False)


def whole_vae(file: Path, config: VideoVaeConfig, network: type[VideoVae] = VideoVae) -> VideoVae:
    vae = network(config)
    vae.load_state_dict({name: value.float() for name, value in load_file(file).items()}, strict=True)
    return vae.eval().requires_grad_(requires_grad=False)


def text_rows(model: Path, config: TransformerConfig, prompt: str) -> Tensor:
    """[1, text_len, C], padding and all through the encoder at once."""
    stored = {name: value.float() for name, value in load_file(model / "models_t5_umt5.safetensors").items()}
    vocab, dim = stored["token_embedding.weight"].shape
    buckets, heads = stored["blocks.0.pos_embedding.embedding.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in stored if name.startswith("blocks."))
    encoder = TextEncoder(
        TextEncoderConfig(
            vocab_size=vocab, dim=dim, dim_attn=stored["blocks.0.attn.q.weight"].shape[0],
            dim_ffn=stored["blocks.0.ffn.fc1.weight"].shape[0], num_heads=heads, num_layers=layers, num_buckets=buckets,
        )
    )  # fmt: skip
    encoder.load_state_dict(stored)
    assert sentencepiece.SentencePieceProcessor(model_file=str(model / "spiece.model")).eos_id() == 1
    ids = Tokenizer((model / "spiece.model").read_bytes()).encode(prompt, config.text_len)
    padded = torch.tensor([ids + [0] * (config.text_len - len(ids))])
    with torch.no_grad():
        return encoder(padded, torch.arange(config.text_len)[None] < len(ids))


@dataclass
class PlainRoad:
    """Networks by the first step that they are not for any more, and what is given beside the noise.

    guidances: of every step. channels: after those of the noise. known: clean first latent frames. start: of a clip.
    """

    networks: Sequence[tuple[int, WanTransformer]]
    texts: tuple[Tensor, Tensor]
    schedule: Schedule
    step: Step
    guidances: Sequence[float]
    channels: Tensor | None = None
    known: Tensor | None = None
    start: Tensor | None = None
    image: Tensor | None = None
    velocities: list[Tensor] = field(default_factory=list)

    def latents(self, shape: tuple[int, ...], seed: int) -> Tensor:
        x = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        if self.start is not None:
            x = (1 - self.schedule.sigmas[0]) * self.start + self.schedule.sigmas[0] * x
        past = Past()
        with torch.no_grad():
            for index, guidance in enumerate(self.guidances):
                x = self._with_known(x)
                velocity = self._guided(index, x, guidance)
                self.velocities.append(velocity)
                x, past = self.step(self.schedule, index, x, velocity, past)
        return self._with_known(x)

    def _with_known(self, x: Tensor) -> Tensor:
        if self.known is not None:
            x = x.clone()
            x[:, :, : self.known.shape[2]] = self.known
        return x

    def _guided(self, index: int, x: Tensor, guidance: float) -> Tensor:
        network = next(network for end, network in self.networks if index < end)
        conditional = self._velocity(network, index, x, self.texts[0])
        if guidance == 1:
            return conditional
        unconditional = self._velocity(network, index, x, self.texts[1])
        return (1 - guidance) * unconditional + guidance * conditional

    def _velocity(self, network: WanTransformer, index: int, x: Tensor, text: Tensor) -> Tensor:
        time = torch.full((1, x.shape[2]), self.schedule.timesteps[index])
        if self.known is None:
            time = time[:, 0]
        else:
            time[:, : self.known.shape[2]] = 0
        given = x if self.channels is None else torch.cat([x, self.channels], 1)
        return network(given, time, text, image=self.image)


def plain_road(command: GenerateVideo, config: TransformerConfig, **given: Tensor | None) -> PlainRoad:
    """The road of `command` with a model of one transformer, by UniPC."""
    network = whole_transformer(command.model / "diffusion_pytorch_model.safetensors", config)
    text, negative = (text_rows(command.model, config, each) for each in (command.prompt, command.negative_prompt))
    schedule = unipc_schedule(command.steps, command.shift)
    return PlainRoad([(1000, network)], (text, negative), schedule, unipc_step, guidances(command), **given)  # type: ignore[arg-type]


def guidances(command: GenerateVideo) -> list[float]:
    return [command.guidance] * (len(command.times) or command.steps)


def off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in deviations of what is expected."""
    return float((found - expected).abs().max() / expected.std())


def channels_of(vae: VideoVae, first: Tensor, last: Tensor | None, frames: int) -> Tensor:
    """Mask and latents of pictures [3, H, W] in a grey video of so many frames: [1, 4+z, T, h, w]."""
    video = torch.zeros(1, 3, frames, *first.shape[1:])
    video[:, :, 0] = first
    if last is not None:
        video[:, :, -1] = last
    with torch.no_grad():
        latents = vae.encode(video)
    mask = torch.zeros(1, 4, *latents.shape[2:])
    mask[:, :, 0] = 1  # the first latent frame is of one frame, which stands for four
    if last is not None:
        mask[:, 3, -1] = 1
    return torch.cat([mask, latents], 1)


def clip_rows(file: Path, config: ImageEncoderConfig, pictures: Sequence[Tensor]) -> Tensor:
    """What CLIP says of pictures [3, H, W], one after the other: [1, I, C]."""
    network, stored = ImageEncoder(config), load_file(file)
    network.load_state_dict({name: stored[name] for name in network.state_dict()})
    with torch.no_grad():
        return torch.cat([network(clip_picture(picture[None], config.image_size)) for picture in pictures], 1)
