"""A pack's coefficients: every row by its own divergence and estimator, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vi_dist.vi.columns import Column, column_tensors, group, group_tensors, pack_coefficients, padded
from vi_dist.vi.divergences import amari, jensen_shannon, kl_forward, kl_reverse, pearson_chi2
from vi_dist.vi.estimators import Coefficients, dreg, reparam, score, self_normalised, stl, vr_iwae

F64 = torch.float64
CHOICES = [
    (kl_reverse, stl),
    (amari(0.5), reparam),
    (kl_forward, self_normalised),
    (amari(2.0), reparam),
    (kl_reverse, vr_iwae(0.3)),
    (jensen_shannon, dreg),
    (amari(1.0), self_normalised),
    (kl_reverse, vr_iwae(0.7)),
    (amari(0.0), reparam),
    (pearson_chi2, score),
]


@pytest.fixture
def columns(column: Callable[..., Column]) -> list[Column]:
    return [column(seed, divergence=d, estimator=e) for seed, (d, e) in enumerate(CHOICES)]


def by_group(
    l: Tensor, shift: Tensor, columns: list[Column], limit: float = 300.0
) -> tuple[Coefficients, Tensor]:
    groups = group(columns)
    return pack_coefficients(
        l, shift, torch.tensor([[limit]], dtype=F64), groups, group_tensors(columns, groups, l)
    )


def test_arguments_do_not_split_groups(columns: list[Column]) -> None:
    assert len(group(columns)) == 7
    assert sum(sum(one.mask(columns)) for one in group(columns)) == len(columns)


def test_every_row_by_its_own_choice(columns: list[Column]) -> None:
    l, shift = torch.randn(10, 4, dtype=F64), torch.randn(10, dtype=F64)
    made, clamped = by_group(l, shift, columns)
    assert clamped.tolist() == [0.0] * 10
    for row, one in enumerate(columns):
        x = l[row] - shift[row] if one.needs_shift else l[row]
        alone = one.estimator(x[None], one.divergence)
        for name, tensor in vars(made).items():
            torch.testing.assert_close(
                tensor[row], vars(alone)[name][0], rtol=1e-13, atol=1e-15, equal_nan=True
            )


def test_who_is_shifted(columns: list[Column]) -> None:
    shifted = [one.needs_shift for one in columns]
    assert shifted == [False, True, False, True, False, True, False, False, True, True]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e6])
def test_a_row_that_overflows_harms_no_other(columns: list[Column], bad: float) -> None:
    l, shift = torch.randn(10, 4, dtype=F64), torch.zeros(10, dtype=F64)
    clean, _ = by_group(l, shift, columns)
    for row in range(10):
        spoiled = l.clone()
        spoiled[row, 1] = bad
        made, _ = by_group(spoiled, shift, columns)
        others = [other for other in range(10) if other != row]
        for name, tensor in vars(made).items():
            assert torch.equal(tensor[others].nan_to_num(7.0), vars(clean)[name][others].nan_to_num(7.0))


def test_what_lies_beyond_the_limit_is_clamped_and_counted(columns: list[Column]) -> None:
    l = torch.zeros(10, 4, dtype=F64)
    l[:, 0], l[:, 1] = 50.0, -41.0
    made, clamped = by_group(l, torch.zeros(10, dtype=F64), columns, limit=40.0)
    assert clamped.tolist() == [2.0 * one.needs_shift for one in columns]
    at_limit, _ = by_group(l.clamp(-40, 40), torch.zeros(10, dtype=F64), columns, limit=40.0)
    for row, one in enumerate(columns):
        if one.needs_shift:
            assert torch.equal(made.path[row], at_limit.path[row])
            assert bool(made.loss[row].isfinite())


def test_the_limit_is_the_tighter_the_steeper_a_divergence(columns: list[Column]) -> None:
    made = column_tensors(columns, group(columns), ["constant"], [], torch.zeros(0))
    limits = made.named["limit"][:, 0].tolist()
    assert limits == [32.0, 32.0, 32.0, 16.0, 32.0, 32.0, 32.0, 32.0, 32.0, 16.0]


def test_padding_repeats_the_first_column_and_takes_no_step(columns: list[Column]) -> None:
    full = padded(columns, 16)
    assert len(full) == 16
    assert full[:10] == columns
    assert all(one.steps == 0 and one.pair == columns[0].pair for one in full[10:])
    assert len(group(full)) == len(group(columns))


def test_three_tensors_carry_all_that_differs_between_columns(columns: list[Column]) -> None:
    made = column_tensors(
        columns, group(columns), ["constant", "cosine"], ["beta1"], torch.empty(0, dtype=F64)
    )
    flat = made.flat()
    assert [tensor.dtype for tensor in flat] == [torch.int64, F64, torch.bool]
    again = made.with_flat(flat)
    for name, tensor in made.named.items():
        assert torch.equal(again.named[name], tensor)
    for ours, theirs in zip(again.tensors, made.tensors, strict=True):
        assert all(map(torch.equal, ours, theirs))
