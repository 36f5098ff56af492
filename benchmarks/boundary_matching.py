"""Boundary matching beside its dense form: time of a pass forward and backward, and memory.

    python benchmarks/boundary_matching.py [--rounds 5]

The dense form is that of the authors and of the paper's code: a matrix product with a mask, (T, S * D * T), makes all
samples of all cells, and a convolution mixes them. Both forms have the same parameters, and their outputs are compared
first. Every round has one pass of each, in random order; a ratio is that of the times in a round, and the median over
the rounds is given. Memory is the peak of a process that makes one pass after another, above that of a process whose
network is one number.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.bench.interleaved import run_interleaved
from tadaconv.bench.peak_memory import peaks
from tadaconv.bench.trial import Trial
from tadaconv.environment import environment
from tadaconv.models.localizers import BMN
from tadaconv.nn.boundary_matching import BoundaryMatching, sampling_matrix
from tadaconv.nn.naive import naive_boundary_matching

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """What is computed: the layer with its convolution, or the network, of features of so many channels.

    ``widths`` are channels before and after the layer, and those of the convolutions on the map.
    """

    part: str
    videos: int
    num_steps: int
    max_duration: int
    num_samples: int
    widths: tuple[int, int, int]
    channels: int


CASES = {
    "layer": Case("layer", 1, 100, 100, 32, (256, 512, 128), 256),
    "network": Case("network", 1, 100, 100, 32, (256, 512, 128), 400),
    "small layer": Case("layer", 8, 64, 64, 16, (64, 64, 16), 64),
    "small network": Case("network", 8, 64, 64, 16, (64, 64, 16), 64),
}


class Dense(nn.Module):
    """The layer by its definition, with the parameters of ``layer``."""

    def __init__(self, layer: BoundaryMatching, num_samples: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        num_steps, max_duration = layer.num_steps, layer.max_duration
        matrix, _ = sampling_matrix(num_steps, max_duration, num_samples, 3, 0.5)
        cells = torch.arange(max_duration * num_steps).repeat_interleave(matrix.offsets.diff())
        mask = torch.zeros(num_steps, num_samples, max_duration * num_steps)
        frames, samples = matrix.columns.long() // num_samples, matrix.columns.long() % num_samples
        mask[frames, samples, cells] = matrix.weights.float()
        self.register_buffer("mask", mask.unflatten(2, (max_duration, num_steps)))

    def forward(self, x_NCT: Tensor) -> Tensor:
        """(N, C, T) to (N, O, D, T)."""
        return naive_boundary_matching(x_NCT, self.get_buffer("mask"), self.weight, self.bias)


class Outputs(nn.Module):
    """A network's boundaries and maps as one tensor."""

    def __init__(self, network: BMN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_NCT: Tensor) -> Tensor:
        """(N, C, T) to (N, 2 * T + 2 * D * T)."""
        outputs = self.network(x_NCT, torch.full((len(x_NCT),), x_NCT.shape[2]))
        maps = (outputs.starts, outputs.ends, outputs.overlaps, outputs.matches)
        return torch.cat([each.flatten(1) for each in maps], 1)


def trial(case: Case, dense: bool) -> Trial:
    """Of one form of a case, with the same numbers for both."""
    torch.manual_seed(0)
    x_NCT = torch.randn(case.videos, case.channels, case.num_steps, requires_grad=True)
    sizes = (case.num_steps, case.max_duration)
    if case.part == "layer":
        layer = BoundaryMatching(case.widths[0], case.widths[1], *sizes, case.num_samples)
        gradient = torch.randn(case.videos, case.widths[1], case.max_duration, case.num_steps)
        return Trial(Dense(layer, case.num_samples) if dense else layer, x_NCT, "eager", False, gradient=gradient)
    network = BMN(case.channels, (1,), *sizes, num_samples=case.num_samples, widths=case.widths)
    if dense:
        network.set_submodule("matching", Dense(network.matching, case.num_samples))
    return Trial(Outputs(network), x_NCT, "eager", False, loss=torch.sum)


def nothing() -> Trial:
    """A network of one number."""
    return Trial(nn.Linear(1, 1), torch.zeros(1, 1, requires_grad=True), "eager", False, loss=torch.sum)


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds by round and form, their ratio, and memory."""
    forms = {"ours": trial(case, False), "dense": trial(case, True)}
    with torch.no_grad():
        ours, dense = (form.run(form.clips) for form in forms.values())
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for by_form in run_interleaved(forms, rounds):
        for name, times in by_form.items():
            seconds[name].append(sum(times.values()))
    del forms
    base, *peak = peaks([nothing, *(partial(trial, case, dense) for dense in (False, True))])
    return {
        **asdict(case),
        "largest_difference": float((ours - dense).abs().max()),
        "seconds": seconds,
        "times_as_fast": median(d / o for o, d in zip(seconds["ours"], seconds["dense"], strict=True)),
        "memory_bytes": {name: each - base for name, each in zip(seconds, peak, strict=True)},
    }


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"environment": environment(torch.device("cpu")), "threads": 1, "cases": {}}
    print("| | ours | dense | times as fast | memory of ours | of the dense form |\n|---|---|---|---|---|---|")
    for name, case in CASES.items():
        result["cases"][name] = of = measured(case, arguments.rounds)
        ours, dense = (f"{1e3 * median(of['seconds'][form]):.0f} ms" for form in ("ours", "dense"))
        memory = " | ".join(f"{of['memory_bytes'][form] / 1e6:.0f} MB" for form in ("ours", "dense"))
        print(f"| {name} | {ours} | {dense} | {of['times_as_fast']:.1f} | {memory} |", flush=True)
    (ROOT / "benchmarks" / "results" / "boundary_matching.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
