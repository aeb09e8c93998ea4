"""Whether float32 holds the digits that a model needs, found before anything is fitted in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vi_dist.cluster.prepared import PreparedModel
from vi_dist.errors import ModelError
from vi_dist.model.data import Data
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.guides.family import INITIAL_SCALE, fixed_normals
from vi_dist.vi.mode import reach_mode

_F32, _F64 = torch.float32, torch.float64
_EPS = torch.finfo(_F32).eps
# A column of which rounding moves the values by this part of their sd has lost its variation.
_LOST = 0.1
# Only where the gaps between float32 numbers are wider than this part of what a mean is known to can they matter; of
# numbers without a spread, or of a start, wider than this.
_FINE, _FINE_START = 0.02, 1e-3
# Gradients disagree by more than this part of themselves at every point, and by more than this many nats a unit.
_APART, _FLOOR = 0.2, 0.1 / INITIAL_SCALE
# How far, in sds of the posterior, the error of gradients may move a guide.
_MOVED = 0.3
# Coordinates of a model whose mode is looked for, and draws around it.
_LARGEST, _POINTS = 500, 4


@dataclass(frozen=True)
class _Coarse:
    """Numbers beside which those of float32 are far apart.

    Attributes:
        what: the column or variable, in words.
        center, sd: mean and standard deviation of the numbers.
        gap: between float32 numbers of their size.
        part: the gap over what their mean is known to.
        lost: whether rounding to float32 moves them by more than a tenth of their sd.
    """

    what: str
    center: float
    sd: float
    gap: float
    part: float
    lost: bool = False

    def __str__(self) -> str:
        spread = f"varies by {self.sd:.3g} around" if self.sd > 0 else "is about"
        return f"{self.what} {spread} {self.center:.10g}, where float32 numbers are {self.gap:.3g} apart"


def check_precision(single: PreparedModel, double: PreparedModel, data: Data) -> None:
    """Refuse float32 for a model that it changes. Rounding that moves no gradient materially is let pass.

    Args:
        single, double: the model in float32 and in float64.
        data: its data as they were read.

    Raises `ModelError` with the column or the variable and the cure:
        where a column that the model uses loses its variation in float32;
        where gradients at the start and beside it disagree, so that no step could be right;
        where a column or a start is so large for its spread that float32 might not do, and gradients at draws around
        the mode disagree by more than 0.3 standard deviations of the posterior; where no mode is found, and where there
        are more than 500 coordinates, if the mean of what is observed is known to less than a gap.
    """
    coarse = _suspect(double, data)
    if coarse is not None and coarse.lost:
        raise _refused(f"{coarse}: its values lose their differences", coarse)
    _check_start(single, double, coarse)
    if coarse is not None:
        _check_mode(single, double, coarse)


def _suspect(double: PreparedModel, data: Data) -> _Coarse | None:
    """The numbers that float32 is most likely too coarse for; None where all are fine.

    Columns that the model computes with come first, then observations from elsewhere, latents, and columns of integers,
    which may be but labels.
    """
    tensors = {name: column for name, column in data.usable().items() if isinstance(column, Tensor)}
    columns = {
        floating: [
            one
            for name, column in tensors.items()
            if column.is_floating_point() == floating
            for one in _coarse(f"column {name}", column)
            if not floating or _uses(double, data, name, one.gap)
        ]
        for floating in (True, False)
    }
    for found in (columns[True], _coarse_observed(double), [*_coarse_start(double)], columns[False]):
        if found:
            return max(found, key=lambda one: (one.lost, one.part))
    return None


def _uses(double: PreparedModel, data: Data, name: str, gap: float) -> bool:
    """Whether the gradient beside the start is another one if a column is shifted by a gap."""
    if double.setup.shards is not None:
        return True
    other = PreparedModel(replace(double.setup, data=data | {name: data[name] + gap}), _F64)
    one, two = (_gradient(model, _beside(double.start)) for model in (double, other))
    return not torch.equal(one.nan_to_num(), two.nan_to_num())


def _check_start(single: PreparedModel, double: PreparedModel, coarse: _Coarse | None) -> None:
    """Refuse a model whose gradient has no right digit in float32, at the start and beside it."""
    wrong = torch.ones_like(double.start, dtype=torch.bool)
    for point in (double.start, _beside(double.start)):
        wide, narrow = (_gradient(model, point) for model in (double, single))
        allowed = (_APART * wide.abs()).clamp_min(_FLOOR)
        wrong &= wide.isfinite() & ~((narrow - wide).abs() <= allowed)
    if not bool(wrong.any()):
        return
    what = f"the gradient in {_latent(double, int(wrong.nonzero()[0]))} has no right digit where guides start"
    if coarse is not None:
        raise _refused(f"{coarse}: {what}", coarse)
    raise ModelError(
        f"{what} in float32; write dtype: float64, or scale and centre what the model computes with",
        key="dtype",
    )


def _beside(start: Tensor) -> Tensor:
    """A draw of a guide at its start."""
    return start + INITIAL_SCALE * fixed_normals("precision", tuple(start.shape), start)


def _check_mode(single: PreparedModel, double: PreparedModel, coarse: _Coarse) -> None:
    """Refuse a model whose gradients around its mode float32 puts off by a part of a standard deviation."""
    size = double.layout.size
    small = size <= _LARGEST and not double.layout.local
    mode = reach_mode(double.joint(), double.start, size) if small else None
    if mode is None:
        _check_observed(double, coarse)
        return
    errors = torch.zeros(_POINTS, size, dtype=_F64)
    for number, normals in enumerate(fixed_normals("precision at the mode", (_POINTS, size), mode.loc)):
        point = torch.cat((mode.loc + mode.root @ normals, double.start[size:]))
        wide, narrow = (_gradient(model, point)[:size] for model in (double, single))
        if not bool(wide.isfinite().all()):
            return
        # Of the log joint in units of the posterior's standard deviations.
        errors[number] = narrow - wide
    moved = float((errors @ mode.root).square().sum(-1).mean().sqrt())
    if not moved <= _MOVED:
        sds = torch.linalg.vector_norm(mode.root, dim=1)
        worst = int((errors.square().mean(0).sqrt() * sds).nan_to_num(math.inf).argmax())
        raise _refused(f"{coarse}: the gradient in {_latent(double, worst)} is not right there", coarse)


def _check_observed(double: PreparedModel, coarse: _Coarse) -> None:
    """Refuse observations whose mean is known more precisely than float32 can say, where no mode tells more."""
    if any(one.part * _FINE > 1 for one in _coarse_observed(double)):
        raise _refused(f"{coarse}: the mean of what is observed is known more precisely", coarse)


def _refused(text: str, coarse: _Coarse) -> ModelError:
    return ModelError(
        f"{text}; write dtype: float64, or subtract {coarse.center:.3g} from {coarse.what}", key="dtype"
    )


def _coarse(what: str, numbers: Tensor) -> Iterator[_Coarse]:
    """The column `(rows, *shape)` of these numbers that is the coarsest in float32, if one is coarse."""
    if numbers.dtype == torch.bool or not numbers.numel():
        return
    columns = numbers.detach().to("cpu", _F64).reshape(numbers.shape[0] if numbers.dim() else 1, -1)
    largest, sds = columns.abs().amax(0), columns.std(0, correction=0)
    # Of a constant column the sd is the rounding error of its mean.
    varies = sds > 16 * torch.finfo(_F64).eps * largest
    gaps = _EPS * largest
    known = torch.where(varies, _FINE * sds / math.sqrt(columns.shape[0]), torch.full_like(sds, _FINE_START))
    worst = int((gaps / known).argmax())
    if not float(gaps[worst]) > float(known[worst]):
        return
    column, sd = columns[:, worst], float(sds[worst]) if bool(varies[worst]) else 0.0
    error = float((column.to(_F32).to(_F64) - column).square().mean().sqrt())
    yield _Coarse(
        what,
        float(column.mean()),
        sd,
        float(gaps[worst]),
        float(gaps[worst] / known[worst]),
        0 < _LOST * sd < error,
    )


def _coarse_observed(double: PreparedModel) -> list[_Coarse]:
    """Observations beside which float32 numbers are far apart."""
    return [
        one
        for variable, value in double.model.observations.items()
        for one in _coarse(f"the observed {variable}", value)
    ]


def _coarse_start(double: PreparedModel) -> Iterator[_Coarse]:
    """Latents whose coordinates start where float32 numbers are far apart."""
    for site in double.layout.latents:
        start = double.start[site.start : site.start + site.size].abs()
        if site.size and float(gap := _EPS * start.max()) > _FINE_START:
            center = float(double.start[site.start + int(start.argmax())])
            yield _Coarse(site.name, center, 0.0, float(gap), float(gap) / _FINE_START)


def _gradient(model: PreparedModel, flat: Tensor) -> Tensor:
    """The gradient `(D,)` of the log joint at flat `(D,)`, float64; NaN where the model fails."""
    try:
        with model_context(model.dtype, model.device), torch.enable_grad():
            leaf = flat.to(model.dtype).requires_grad_()
            value = Density(model.model, model.layout)(leaf)
            if not value.requires_grad:
                return torch.zeros_like(flat)
            (found,) = torch.autograd.grad(value, leaf)
    except Exception:  # a matrix without a Cholesky factor, say: training would not get past it either
        return torch.full_like(flat, math.nan)
    return found.to(flat)


def _latent(double: PreparedModel, coordinate: int) -> str:
    """The latent or param that a coordinate belongs to."""
    layout = double.layout
    sites = (*layout.latents, *layout.params, *layout.local)
    return next(site.name for site in sites if site.start <= coordinate < site.start + site.size)
