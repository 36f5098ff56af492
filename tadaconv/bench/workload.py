"""A workload: the plain network, and the methods that are compared with it on the same clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tadaconv.bench.options import Options, method_names
from tadaconv.bench.record import Phase, Work
from tadaconv.bench.trial import Form, Trial
from tadaconv.spec import Rival, TAda, Temporal

MakeTrial = Callable[[bool], Trial]
"""Makes the trial of a method, from whether to compile it; picklable, as it is sent to other processes."""


@dataclass(frozen=True)
class Workload:
    """A convolution or a network, and the methods that are timed on it; a case of it is timed in each mode.

    Attributes:
        name: which convolution or network.
        methods: by name; the plain network first.
        work: the least that the plain network must do.
        naive: from the name of a method to that of its form with a kernel for every frame.
    """

    name: str
    methods: dict[str, MakeTrial]
    work: dict[Phase, Work]
    naive: dict[str, str]


def choose_methods(
    options: Options,
    make: Callable[[Temporal, Form, bool], Trial],
    plain: str,
    ours: Sequence[tuple[str, str, TAda]],
    *,
    can_be_fused: bool = True,
) -> tuple[dict[str, MakeTrial], dict[str, str]]:
    """The methods of ``options``, and the naive form of those that have one, as in :class:`Workload`.

    Args:
        options: name the methods.
        make: makes a trial from what is plugged in, its form, and whether it is compiled.
        plain: name of the plain network.
        ours: of each calibration, the names of ours and of its naive form, and the operator.
        can_be_fused: whether the fused kernels support such convolutions.
    """
    chosen: dict[str, tuple[Temporal, Form]] = {plain: (None, "eager")}
    naive = {}
    for name, naive_name, tada in ours:
        if options.includes("tada"):
            chosen[name] = tada, "eager"
        if options.includes("naive"):
            chosen[naive_name] = tada, "naive"
        if can_be_fused and options.includes_fused(tada.calibration):
            chosen[f"{name}, fused"] = tada, "fused"
        if {name, naive_name} <= chosen.keys():
            naive[name] = naive_name
    for rival in method_names()[3:]:
        if options.includes(rival):
            chosen[rival] = Rival(name=rival), "eager"
    return {name: partial(make, temporal, form) for name, (temporal, form) in chosen.items()}, naive
