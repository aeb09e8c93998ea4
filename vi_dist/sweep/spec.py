"""`SweepSpec`: everything a sweep's YAML may say, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationError,
)

from vi_dist.errors import SpecError
from vi_dist.sweep import fields
from vi_dist.sweep.dimension import (
    AVERAGING,
    NUM_SAMPLES,
    SEED,
    STEPS,
    Dimension,
    Named,
    as_list,
    dump,
    dump_named,
    ranges,
)
from vi_dist.sweep.faults import first_fault
from vi_dist.sweep.overrides import apply_overrides
from vi_dist.sweep.parsing import parse_space
from vi_dist.sweep.secret_addresses import check_complete, redacted_values
from vi_dist.sweep.source import Source
from vi_dist.sweep.values import POSITIVE, expected, plain, show
from vi_dist.sweep.yaml_file import read_yaml
from vi_dist.vi.table import Argument

MOST_CONFIGURATIONS = 100_000
"""Configurations of a sweep at most; `vi_dist.sweep.space` holds grids to it too."""
_COUNT = Argument(int, low=1, high=MOST_CONFIGURATIONS)
_BATCH = Argument(int, low=1)
_DRAWS = Argument(int, low=2, high=1_000_000)
_CPUS = Argument(float, low=POSITIVE, high=1024.0)
_GPUS = Argument(float, low=0.0, high=1024.0)
_ETA = Argument(int, low=2, high=MOST_CONFIGURATIONS)
_TIME = Argument(float, low=POSITIVE, high=1e9)
_PART = Argument(float, low=POSITIVE, high=math.nextafter(1.0, 0.0))


OBJECTIVES = {"elbo": "elbo", "iw_elbo": "iw_elbo", "elpd": "elpd", "callable": "score"}
"""What configurations can be ranked by, and the column of the leaderboard that holds it; larger is better."""
SEARCHES = ("grid", "random", "qmc", "tpe")
GENERATION = 32


def _number(argument: Argument) -> PlainValidator:
    return PlainValidator(partial(fields.number, argument=argument))


def _optional_number(argument: Argument) -> PlainValidator:
    return PlainValidator(partial(fields.optional, parse=partial(fields.number, argument=argument)))


def _word(noun: str, *allowed: str) -> PlainValidator:
    return PlainValidator(partial(fields.word, noun=noun, allowed=allowed))


def _entry(noun: str) -> PlainValidator:
    return PlainValidator(partial(fields.entry, noun=noun))


def _path(parse: Any) -> PlainValidator:
    return PlainValidator(lambda value, info: None if value is None else parse(value, info))


def _dump_space(space: Mapping[str, Dimension]) -> dict[str, Any]:
    return {name: dump(dimension) for name, dimension in space.items()}


_Text = Annotated[str | None, PlainValidator(partial(fields.optional, parse=fields.text))]
_Dump = PlainSerializer(dump_named, return_type=Any)


class Evaluation(BaseModel):
    """How every fit is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: Annotated[int, _number(_DRAWS)] = Field(
        default=4096, description="draws of each guide, common to all"
    )


class HalvingSpec(BaseModel):
    """Successive halving: at `min_steps` times 1, eta, eta², ... steps, one in eta goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    eta: Annotated[int, _number(_ETA)] = Field(default=3, description="one in so many goes on at a rung")
    min_steps: Annotated[int, _number(STEPS)] = Field(default=500, description="steps of the first rung")


class Budget(BaseModel):
    """What the sweep may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: Annotated[float, _number(_TIME)] = Field(
        description="wall time; then what is under way is evaluated where it stands"
    )


class SweepSpec(BaseModel):
    """A sweep's description, checked, with absolute paths and the defaults in place.

    Names of guides, divergences and so on, and their arguments, are checked by `vi_dist.sweep.space.resolve`,
    which knows the tables. Two specs are equal when every key is, wherever they were read. Make one with
    `load_spec` or `make_spec`: their errors are `SpecError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Annotated[str, PlainValidator(fields.sweep_name)] = Field(description="of the MLflow experiment")
    model: Annotated[str | None, _path(fields.model_path)] = Field(
        default=None, description="FILE.py:FUNCTION"
    )
    data: Annotated[str | list[str] | None, _path(fields.data_paths)] = Field(
        default=None,
        description="file handed to the function; of several, one after another, only with shards",
    )
    columns: Annotated[
        tuple[str, ...] | None, PlainValidator(partial(fields.optional, parse=fields.names))
    ] = Field(default=None, description="of the data, those that build gets; absent, all")
    space: Annotated[
        dict[str, Dimension], PlainValidator(parse_space), PlainSerializer(_dump_space, return_type=Any)
    ] = Field(description="what is compared: lists of choices, and ranges in a random search")
    search: Annotated[Literal["grid", "random", "qmc", "tpe"], _word("search", *SEARCHES)] = Field(
        default="grid",
        description="every combination; random, evenly spread (qmc), or learning from results (tpe)",
    )
    generation: Annotated[int | None, _optional_number(_COUNT)] = Field(
        default=None, description=f"of a tpe search: how many are asked at once; default {GENERATION}"
    )
    configurations: Annotated[int | None, _optional_number(_COUNT)] = Field(
        default=None, description="how many; a grid without it is whole"
    )
    steps: Annotated[int, _number(STEPS)] = Field(default=STEPS.default, description="of a fit")
    num_samples: Annotated[int, _number(NUM_SAMPLES)] = Field(
        default=NUM_SAMPLES.default, description="draws per step"
    )
    optimizer: Annotated[Named, _entry("optimizer"), _Dump] = Field(default=Named("adam", (), "optimizer"))
    schedule: Annotated[Named, _entry("schedule"), _Dump] = Field(default=Named("constant", (), "schedule"))
    initialisation: Annotated[Named, _entry("initialisation"), _Dump] = Field(
        default=Named("prior_median", (), "initialisation"), description="where guides start"
    )
    averaging: Annotated[float, _number(AVERAGING)] = Field(
        default=AVERAGING.default, description="about which part of the iterates, the last ones, is averaged"
    )
    seed: Annotated[int, _number(SEED)] = Field(
        default=SEED.default, description="of the search, and of the fits where the space has none"
    )
    halving: HalvingSpec | None = Field(default=None, description="stop the weakest on the way")
    budget: Budget | None = Field(default=None, description="of the sweep's time; see time_limit")
    time_limit: Annotated[float | None, _optional_number(_TIME)] = Field(
        default=None, description="seconds for each fit; what it ends depends on the machine"
    )
    executor: Annotated[Literal["ray", "inline"], _word("executor", "ray", "inline")] = "ray"
    address: _Text = Field(default=None, description="of a running Ray cluster; absent, a local one starts")
    pack_size: Annotated[
        int | str, PlainValidator(partial(fields.number_or, word="auto", argument=_COUNT))
    ] = Field(
        default="auto", description="configurations that step together; 1 gives each an actor of its own"
    )
    compile: Annotated[
        Literal["auto", "always", "never"], _word("compile mode", "auto", "always", "never")
    ] = "auto"
    dtype: Annotated[Literal["float32", "float64"], _word("dtype", "float32", "float64")] = "float32"
    evaluation: Evaluation = Evaluation()
    objective: Annotated[Literal["elbo", "iw_elbo", "elpd", "callable"], _word("objective", *OBJECTIVES)] = (
        Field(default="elbo", description="what configurations are ranked by")
    )
    holdout: Annotated[float | None, _optional_number(_PART)] = Field(
        default=None, description="part of the rows that does not train and that elpd is of"
    )
    reference: Annotated[str | None, _path(fields.data_path)] = Field(
        default=None, description="JSON file of means and sds to which the distance is measured"
    )
    shards: Annotated[
        int | str | None,
        PlainValidator(
            partial(fields.optional, parse=partial(fields.number_or, word="auto", argument=_COUNT))
        ),
    ] = Field(default=None, description="in how many parts the rows are cut; each gets an actor of its own")
    group_by: _Text = Field(default=None, description="column whose values stay in one shard")
    batch_size: Annotated[int | None, _optional_number(_BATCH)] = Field(
        default=None, description="rows of each shard that a step sees; absent, all of them"
    )
    biased_minibatches: Annotated[bool | None, PlainValidator(fields.flag)] = Field(
        default=None, description="have batches also where they bias the gradient"
    )
    checkpoint_dir: Annotated[str | None, _path(fields.folder_path)] = Field(
        default=None, description="of shards, any fsspec path that all of them reach; absent, the sweep's own"
    )
    tracking_uri: _Text = Field(
        default=None, description="of MLflow; absent, a database in the output folder"
    )
    output_dir: Annotated[str | None, _path(fields.folder_path)] = None
    max_actors: Annotated[int | None, _optional_number(_COUNT)] = None
    cpus_per_actor: Annotated[float, _number(_CPUS)] = 1.0
    gpus_per_actor: Annotated[float | None, _optional_number(_GPUS)] = None

    _source: Source = PrivateAttr(default=Source())

    @property
    def source(self) -> Source:
        """Where the spec was read."""
        return self._source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SweepSpec) and self.to_dict() == other.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every default in place, which `make_spec` reads back as an equal spec."""
        return self.model_dump(exclude_none=True)

    def to_yaml(self) -> str:
        """The text of ``spec.resolved.yaml``, which `load_spec` reads back as an equal spec.

        Passwords and tokens in addresses are not in it; see `vi_dist.sweep.secret_addresses`.
        """
        return yaml.safe_dump(
            redacted_values(self.to_dict()), sort_keys=False, allow_unicode=True, default_flow_style=None
        )


def load_spec(
    path: str | PathLike[str], overrides: Mapping[str, object] | None = None, *, needs_model: bool = True
) -> SweepSpec:
    """The spec in a YAML file, with dotted keys replaced (``{"space.seed": [0, 1]}``; None deletes a key).

    `needs_model=False` reads the resolved spec of a sweep that was made in Python, which has no model file.

    Raises:
        SpecError: the file, and the first fault in it, with its key path and what is allowed there.
    """
    file = Path(path)
    spec = make_spec(read_yaml(file), path=file, overrides=overrides)
    if needs_model and spec.model is None:
        reason = "the spec names no model; write for example model: model.py:build"
        raise SpecError(reason, path=file, key="model", allowed=("FILE.py:FUNCTION",))
    return spec


def make_spec(
    values: object, *, path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> SweepSpec:
    """The spec that plain data describe, lists as lists, tuples, ranges or arrays.

    Relative paths start from the folder of `path`, or from the working folder.

    Raises:
        SpecError: the first fault, with its key path and what is allowed there.
    """
    source = Source(path, tuple(overrides or ()))
    with source.placing():
        plain_values = plain(values)
        if not isinstance(plain_values, dict):
            what = "the file is empty" if plain_values is None else f"{show(plain_values)} is not a mapping"
            raise SpecError(f"{what}; a spec is keys with values, one a line", allowed=SweepSpec.model_fields)
        changed = apply_overrides(plain_values, overrides or {})
        try:
            spec = SweepSpec.model_validate(changed, context={"base": source.base})
        except ValidationError as error:
            raise first_fault(error, SweepSpec) from None
        check_complete(spec.to_dict())
        _check_search(spec)
        _check_objective(spec)
    spec._source = source
    return spec


def _check_objective(spec: SweepSpec) -> None:
    """Refuse a density of rows that are not held out."""
    if spec.objective == "elpd" and spec.holdout is None:
        reason = "elpd is the density of rows that did not train, and none are held out; write for example holdout: 0.2"
        raise SpecError(reason, key="holdout", allowed=(expected(_PART),))


def _check_search(spec: SweepSpec) -> None:
    """Refuse a range in a grid, a search without an end, and generations of a search that has none."""
    if spec.search != "grid" and spec.configurations is None:
        reason = (
            f"a {spec.search} search needs a number of configurations; write for example configurations: 256"
        )
        raise SpecError(reason, key="configurations", allowed=(expected(_COUNT),))
    if spec.search != "tpe" and spec.generation is not None:
        reason = f"a {spec.search} search has no generations; write search: tpe, or delete the key"
        raise SpecError(reason, key="generation")
    if spec.search == "grid":
        for found in (found for dimension in spec.space.values() for found in ranges(dimension)):
            cure = f"list its values, for example {as_list(found)}, or write search: random"
            raise SpecError(
                f"a grid cannot hold a range; {cure}", key=found.key, allowed=("a list of values",)
            )
