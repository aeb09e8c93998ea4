"""What fits are scored by beside the common evaluation, checked before anything starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from vi_dist.api.checks import placing
from vi_dist.cluster.columns import family
from vi_dist.cluster.holdout import Holdout
from vi_dist.cluster.prepared import PreparedModel, cut_rows, prepare
from vi_dist.cluster.setup import Setup
from vi_dist.errors import ModelError, SpecError
from vi_dist.evaluation.elpd import row_log_densities
from vi_dist.evaluation.moments import Moments, moments
from vi_dist.evaluation.reference import read_reference
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.spec import SweepSpec
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import Layout

log = logging.getLogger(__name__)

_KEY = "holdout"


def with_scores(setup: Setup, spec: SweepSpec) -> Setup:
    """The setup with the spec's rows to hold out and its reference.

    Raises `SpecError` where there are no rows that can be held out, or where the reference names nothing of the model.
    """
    if spec.holdout is not None:
        setup = replace(setup, holdout=_holdout(setup, spec.holdout, spec.seed))
    if spec.reference is not None:
        setup = replace(setup, reference=_reference(setup, spec.reference))
    return setup


def check_rankable(spec: SweepSpec, configurations: Sequence[Configuration], layout: Layout) -> None:
    """Raise `SpecError` where no configuration can have the number that the sweep is ranked by."""
    if spec.objective not in ("elbo", "iw_elbo"):
        return
    guides = dict.fromkeys(configuration.guide for configuration in configurations)
    if any(family(guide, layout.noise).settled.has_density for guide in guides):
        return
    raise SpecError(
        f"{', '.join(map(str, guides))} is a point estimate without {spec.objective}, so nothing could be ranked; "
        "add a guide with a density, or rank by rows held out (objective: elpd with holdout: 0.2)",
        key="space.guide",
    )


def _holdout(setup: Setup, fraction: float, seed: int) -> Holdout:
    """A split of the model's rows, after the model has been built on all of them and on both parts."""
    if setup.shards is not None:
        return _holdout_of_shards(setup, fraction, seed)
    if setup.data is None:
        raise SpecError("there are no data whose rows could be held out; delete holdout", key=_KEY)
    data = setup.load()
    with placing(setup.build):
        whole = prepare(setup, torch.float64)
        if (summed_out := whole.layout.summed_out) is not None:
            raise SpecError(
                f"{summed_out.names}: with discrete latents summed out, rows that are held out have no density of "
                "their own; delete holdout, or sum them out of the model by hand",
                key=_KEY,
            )
        rows = _several(_rows(whole))
    found = Holdout(rows, fraction, seed)
    if not found.split(data):
        sizes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in data.usable().items()) or "none"
        raise SpecError(
            f"no array of the data has the {rows} rows of what the model observes: {sizes}", key=_KEY
        )
    split = replace(setup, holdout=found)
    for held_out, count in ((False, rows - found.count), (True, found.count)):
        with _on_part(count, rows, setup):
            _check_part(prepare(split, torch.float64, held_out=held_out), whole, count)
    return found


def _holdout_of_shards(setup: Setup, fraction: float, seed: int) -> Holdout:
    """A split of the rows of all shards, checked on the first one's: the others' never come to this process."""
    assert setup.shards is not None, "a setup with shards"
    if setup.shards.group_by is not None:
        raise SpecError(
            "group_by and holdout do not go together: rows of one group would train and be held out; delete one",
            key=_KEY,
        )
    cut = cut_rows(setup, 0)
    with placing(setup.build):
        whole = prepare(setup, torch.float64)
        rows = _several(_rows(whole))
    if whole.layout.local:
        names = ", ".join(site.name for site in whole.layout.local)
        raise SpecError(f"latents that belong to rows ({names}) say nothing of rows held out", key=_KEY)
    if rows != cut.rows:
        raise SpecError(f"of {cut.rows} rows that it is given the model observes {rows}", key=_KEY)
    found = Holdout(cut.total, fraction, seed)
    split = replace(setup, holdout=found)
    for held_out in (False, True):
        count = found.of_shard(cut, held_out).rows
        with _on_part(count, rows, setup):
            _check_part(prepare(split, torch.float64, held_out=held_out), whole, count)
    return found


def _rows(prepared: PreparedModel) -> int:
    """The size of the first axis that all observed variables share."""
    sizes = {str(variable): tuple(value.shape) for variable, value in prepared.model.observations.items()}
    if len({size[:1] for size in sizes.values()}) != 1 or not all(sizes.values()):
        told = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none"
        raise SpecError(f"what the model observes has no rows in common: {told}; delete holdout", key=_KEY)
    rows: int = next(iter(sizes.values()))[0]
    return rows


def _several(rows: int) -> int:
    """The number of rows, of which some can be held out."""
    if rows < 2:
        raise SpecError("of one row none can be held out; delete holdout", key=_KEY)
    return rows


@contextmanager
def _on_part(count: int, rows: int, setup: Setup) -> Iterator[None]:
    """Say of an error of the model that it came of leaving rows out."""
    try:
        yield
    except SpecError as error:
        if error.key == _KEY:
            raise
        what = (
            f"on {count} of the {rows} rows the model fails, and on all of them it does not: {error.message}"
        )
        cure = "its build has to take the number of rows from its arrays; or delete holdout"
        raise ModelError(f"{what}; {cure}", path=error.path or setup.build.file, key=_KEY) from error


def _check_part(part: PreparedModel, whole: PreparedModel, count: int) -> None:
    """A part of the rows must give the same latents, and a density for each of its rows."""
    if _rows(part) != count:
        what = f"of {count} rows that it is given the model observes {_rows(part)}"
        raise SpecError(f"{what}: they cannot be held out; delete holdout", key=_KEY)
    mine, theirs = _shapes(part), _shapes(whole)
    if mine != theirs:
        name = next(name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name))
        what = f"{name} has shape {theirs.get(name)} with all rows and {mine.get(name)} with {count} of them"
        raise SpecError(
            f"{what}: latents that belong to rows say nothing of rows held out; delete holdout", key=_KEY
        )
    part.log_density()
    with model_context(part.dtype, part.device), torch.no_grad():
        row_log_densities(Density(part.model, part.layout), part.start)


def _shapes(prepared: PreparedModel) -> dict[str, tuple[int, ...]]:
    layout = prepared.layout
    return {site.name: tuple(site.shape) for site in (*layout.latents, *layout.params)}


def _reference(setup: Setup, path: str) -> Moments:
    """The reference in a file, of which the model must have at least one element."""
    reference = read_reference(path)
    prepared = prepare(setup, torch.float64)
    with placing(setup.build), model_context(prepared.dtype, prepared.device):
        found = prepared.queries.constrain(prepared.shared_start)
    names = moments(
        {name: value.detach()[None].expand(2, *value.shape).numpy() for name, value in found.items()}
    )
    if not set(names) & set(reference):
        raise SpecError(
            f"the reference names {', '.join([*reference][:3])}, ..., of which the model has none",
            key="reference",
            allowed=[*names][:8],
        )
    _check_spread({name: reference[name] for name in reference if name in names}, path)
    if others := [name for name in reference if name not in names]:
        log.warning("reference: the model has no %s, which the distance leaves out", _listed(others))
    return reference


def _check_spread(shared: Moments, path: str) -> None:
    """Refuse a reference in whose standard deviations nothing can be measured; say which elements it leaves out."""
    constant = [name for name, (_, sd) in shared.items() if sd == 0]
    if len(constant) == len(shared):
        raise SpecError(
            f"{_listed(constant)} in {path} has sd 0, and distances are measured in the reference's standard "
            "deviations; give the sd of the reference draws, or delete reference",
            key="reference",
        )
    if constant:
        log.warning("reference: %s has sd 0, which the distance leaves out", _listed(constant))


def _listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
