"""The packs of the benchmarks: models traced, programs made. Needs torch and numpy alone."""

from __future__ import annotations

from functools import cache

import torch

from benchmarks.models.case import Case
from benchmarks.sides.side import Job
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context, steady_products
from vi_dist.vi.density import Density
from vi_dist.vi.divergences import kl_reverse
from vi_dist.vi.estimators import ESTIMATORS
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import Layout, make_layout
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.trace import JointProgram, trace_joint

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
FOREVER = 10**9


@cache
def built(case: Case, dtype: torch.dtype, device: str = "cpu") -> tuple[Model, Layout]:
    """The case's model in a dtype on a device, and its coordinates, which start where the case says."""
    steady_products()
    arrays = {name: torch.as_tensor(array).to(device) for name, array in case.data().items()}
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in arrays.items()}
    with model_context(dtype, device):
        model = case.build(tensors)
        layout = make_layout(model)
    for name, value in case.start().items():
        site = next(site for site in layout.latents if site.name == name)
        layout.loc[site.start : site.start + site.size] = torch.as_tensor(value.reshape(-1))
    return model, layout


@cache
def traced(case: Case, dtype: torch.dtype, device: str = "cpu") -> JointProgram:
    """The case's log joint."""
    return trace_joint(Density(*built(case, dtype, device)), dtype=dtype, device=device)


def family(case: Case, guide: str) -> Family:
    """The guide family over the case's coordinates."""
    made: Family = GUIDES[guide].make(built(case, torch.float32)[1].noise)
    return made


def program(job: Job, estimator: str) -> PackProgram:
    """The pack of a job, neither traced nor compiled yet."""
    columns = [
        Column(seed, FOREVER, rate, kl_reverse, ESTIMATORS[estimator].make(), ADAM)
        for seed, rate in enumerate(job.rates())
    ]
    _, layout = built(job.case, torch.float32, job.device)
    joint, adam = traced(job.case, torch.float32, job.device), OPTIMIZERS["adam"].make()
    return PackProgram(
        joint, layout, family(job.case, job.guide), adam, job.samples, columns, job.width, device=job.device,
        dtype=torch.float32,
    )  # fmt: skip
