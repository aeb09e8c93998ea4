"""A saved fit as an MLflow model: made once, whole, and found again after a crash."""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from vi_dist.tracking import limits
from vi_dist.tracking.champion import ALIAS, Merits, why_it_stays
from vi_dist.tracking.patience import Refused
from vi_dist.tracking.records import GuideLogged
from vi_dist.tracking.store import KEY_TAG, SWEEP_TAG, Store

LOADER = "vi_dist.tracking.guide_model"
"""The module whose code an MLflow model of a guide runs; what is logged is data."""
DEFAULT_DRAWS = 1000
"""How many draws ``predict`` returns when nobody says."""


def log_guide(store: Store, experiment_id: str, run_id: str, sweep: str, guide: GuideLogged) -> str:
    """Keep the guide as a model of the run; returns the model's id.

    Raises:
        Refused: its directory is not there, or MLflow will not take it.
        GaveUp: the store is away and nobody waits.
    """
    directory, call = Path(guide.directory), store.patience.call
    if not directory.is_dir():
        raise Refused(f"no saved fit at {directory}")
    model = call(_find, store, experiment_id, run_id, guide.name)
    if model is None:
        tags = {SWEEP_TAG: sweep, KEY_TAG: guide.key}
        model = call(
            store.client.create_logged_model,
            experiment_id,
            name=guide.name,
            source_run_id=run_id,
            tags=tags,
            model_type="vi-guide",
        )
    if model.status != "READY":
        with tempfile.TemporaryDirectory(prefix="vi_dist_guide_") as place:
            saved = str(Path(place) / "model")
            call(_save, saved, directory, guide)
            call(store.client.log_model_artifacts, model.model_id, saved)
        call(store.client.log_outputs, run_id, [LoggedModelOutput(model.model_id, step=0)])
        call(store.client.finalize_logged_model, model.model_id, "READY")
    return str(model.model_id)


def _find(store: Store, experiment_id: str, run_id: str, name: str) -> LoggedModel | None:
    """The run's model of that name, if an earlier attempt made it."""
    found = store.client.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}' AND name = '{name}'"
    )
    return found[0] if found else None


def _save(path: str, directory: Path, guide: GuideLogged) -> None:
    """Write the model's directory: its loader's name, requirements, signature and the saved fit."""
    with warnings.catch_warnings():
        # MLflow warns about type hints of its own, and that there is no example of an input that is not used.
        # A writer without guides need not wait for these imports.
        warnings.simplefilter("ignore")
        from mlflow import pyfunc
        from mlflow.models.signature import ModelSignature
        from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

        outputs = Schema([ColSpec("double", column) for column in guide.columns]) if guide.columns else None
        params = [ParamSpec("num_samples", "long", DEFAULT_DRAWS), ParamSpec("seed", "long", 0)]
        pyfunc.save_model(
            path,
            loader_module=LOADER,
            data_path=str(directory),
            pip_requirements=requirements(),
            signature=ModelSignature(outputs=outputs, params=ParamSchema(params)),
        )


def requirements() -> list[str]:
    """What drawing from a guide needs, at the versions that are here; inferring it costs seconds."""
    pinned = []
    for package in ("mlflow", "numpy", "pandas", "safetensors", "torch", "zuko", "vi_dist"):
        try:
            pinned.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return pinned


def register(store: Store, model_id: str, run_id: str, guide: GuideLogged) -> str:
    """Make a logged guide the newest version of its registered name, and its champion if it deserves that.

    Returns a sentence that says which version it is and whether it is the champion; applied twice it is registered
    once. Raises `GaveUp` if the store is away and nobody waits.
    """
    client, call = store.client, store.patience.call
    merits = Merits.from_tags({tag: str(value) for tag, value in guide.merits.items()})
    name = limits.safe_name(guide.register).replace("/", "_").replace(":", "_")
    version = _version(store, name, call(client.get_logged_model, model_id), run_id, merits)
    holder = call(_holder, store, name)
    asked = guide.alias == "always"
    if holder is not None and str(holder.version) != version and not asked:
        reason = why_it_stays(merits, Merits.from_tags(holder.tags))
    else:
        reason = "" if asked else why_it_stays(merits, None)
    if reason:
        has = "has no champion yet" if holder is None else f"keeps version {holder.version} as its champion"
        return f"{name} {has}: version {version} is registered without the alias, since {reason}; --champion moves it"
    call(client.set_registered_model_alias, name, ALIAS, version)
    return f"{name} has version {version} as its champion"


def _version(store: Store, name: str, model: LoggedModel, run_id: str, merits: Merits) -> str:
    """The number of the model's version under a registered name, made if it is not there, with what it is known for."""
    client, call = store.client, store.patience.call
    if not call(client.search_registered_models, f"name = '{name}'"):
        call(_register_name, store, name)
    versions = call(client.search_model_versions, f"name = '{name}' and run_id = '{run_id}'")
    known = [each.version for each in versions if each.source == model.artifact_location]
    if not known:
        # By location: MLflow would look `models:/<id>` up in whatever store is the global one.
        source = model.artifact_location
        made = call(
            client.create_model_version,
            name,
            source,
            run_id=run_id,
            model_id=model.model_id,
            await_creation_for=0,
        )
        known = [made.version]
    version = str(known[0])
    call(client.update_model_version, name, version, merits.describe())
    for tag, value in merits.to_tags().items():
        call(client.set_model_version_tag, name, version, tag, value)
    return version


def _holder(store: Store, name: str) -> ModelVersion | None:
    """The version that has the alias now, if one has."""
    try:
        return store.client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as fault:
        if fault.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _register_name(store: Store, name: str) -> None:
    """A registered model of that name, whoever makes it first."""
    try:
        store.client.create_registered_model(name)
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
