"""What both trainings share: one process a core that average their gradients, and the Muon step.

On a small CPU two processes with one thread each do nearly twice the work of one process with two threads.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

NEWTON_SCHULZ = (  # minimax coefficients of successive iterations, from Jordan et al., "Muon" (2024), tuned variant
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
)


def run_on_every_core(work: Callable[..., None], *arguments: object) -> None:
    """Call `work(rank, *arguments)` in one process a core, joined by gloo."""
    ranks = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_joined, (ranks, str(Path(folder) / "rendezvous"), work, arguments), nprocs=ranks)  # type: ignore[attr-defined, no-untyped-call]


def _joined(rank: int, ranks: int, meeting: str, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    work(rank, *arguments)
    dist.destroy_process_group()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def agreed(flag: bool) -> bool:
    """Whether rank 0 says so; keeps the processes in step when one looks at the clock."""
    answer = torch.tensor([int(flag)])
    dist.broadcast(answer, src=0)
    return bool(answer.item())


@torch.no_grad()
def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix [m, n] with all its singular values near one (Newton-Schulz, for which bfloat16 is enough)."""
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if matrix.shape[0] > matrix.shape[1] else x).float()


class Muon:
    """Momentum whose step is orthogonalised; for weight matrices and, flattened, convolutions."""

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float = 0.9) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.averages = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter by `rate` times its orthogonalised Nesterov momentum."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            if parameter.grad is None:
                continue
            average.lerp_(parameter.grad, 1 - self.momentum)
            direction = orthogonalised(parameter.grad.lerp(average, self.momentum).flatten(1))
            tall = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
            parameter.add_(direction.view_as(parameter), alpha=-rate * tall)


class Optimizer:
    """Muon for the inner weights, Adam for the rest, under one relative rate."""

    def __init__(self, module: nn.Module, inner: Callable[[str, nn.Parameter], bool], muon: float, adam: float) -> None:
        chosen = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.all = [p for _, p in chosen]
        self.muon = Muon(p for name, p in chosen if inner(name, p))
        rest = [p for name, p in chosen if not inner(name, p)]
        self.adam = torch.optim.AdamW(rest, lr=adam, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.muon_rate, self.adam_rate = muon, adam

    def step(self, loss: Tensor, rate: float) -> None:
        """One step down `loss`, with both rates scaled by `rate`."""
        for parameter in self.all:
            parameter.grad = None
        loss.backward()
        average_gradients(self.all)
        nn.utils.clip_grad_norm_(self.all, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * rate
        self.adam.step()
        self.muon.step(self.muon_rate * rate)
