"""The sweep of `benchmarks/sweep.yaml` as one writes it with Ray Tune, Pyro and Tune's MLflow callback.

    python -m benchmarks.peer_tune --configurations 16 --steps 2000 --output /tmp/tune

Its settings are the ones that suit Tune: one CPU for each of two trials at a time, actors reused, the data in the
object store, validation off, particles vectorised, a report every fifth of a run, no checkpoints.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

DRAWS = 4096
REPORTS = 5


def trial(config: dict[str, Any], data: dict[str, Any], steps: int, samples: int) -> None:
    """Fit one configuration and report its ELBO on `DRAWS` fresh draws."""
    import pyro
    import torch
    from pyro.infer import SVI, Trace_ELBO, autoguide
    from pyro.infer.autoguide.initialization import init_to_value
    from ray import tune

    from benchmarks.models.german_credit import pyro_model

    torch.set_num_threads(1)
    pyro.enable_validation(False)
    pyro.clear_param_store()
    pyro.set_rng_seed(config["seed"])
    tensors = {name: torch.as_tensor(array).float() for name, array in data.items()}
    start = {"beta": torch.zeros(tensors["design"].shape[1])}
    kind = autoguide.AutoNormal if config["guide"] == "mean_field" else autoguide.AutoMultivariateNormal
    guide = kind(pyro_model, init_scale=0.1, init_loc_fn=init_to_value(values=start))
    loss = Trace_ELBO(num_particles=samples, vectorize_particles=samples > 1, max_plate_nesting=0)
    svi = SVI(pyro_model, guide, pyro.optim.Adam({"lr": config["learning_rate"]}), loss)
    every = max(1, steps // REPORTS)
    for step in range(1, steps + 1):
        value = svi.step(tensors)
        if step % every == 0 and step < steps:
            tune.report({"loss": value, "step": step, "elbo": -value})
    final = Trace_ELBO(num_particles=DRAWS, vectorize_particles=True, max_plate_nesting=0)
    with torch.no_grad():
        value = final.loss(pyro_model, guide, tensors)
    tune.report({"loss": value, "step": steps, "elbo": -value})


def main() -> None:
    """Run the sweep and print its leaderboard."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--guides", default="mean_field,full_rank")
    parser.add_argument("--trials", type=int, default=2, help="at a time, one CPU each")
    parser.add_argument(
        "--output", type=Path, required=True, help="directory for Tune's results and MLflow's store"
    )
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Tune, then the leaderboard."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.basic_variant import BasicVariantGenerator

    from benchmarks.models.german_credit import data

    output = arguments.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    ray.init(address="local", num_cpus=arguments.trials, include_dashboard=False, log_to_driver=False)
    trainable = tune.with_parameters(trial, data=data(), steps=arguments.steps, samples=arguments.samples)
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{output / 'mlflow.db'}", experiment_name="peer", save_artifact=False
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={
            "guide": tune.choice(arguments.guides.split(",")),
            "learning_rate": tune.loguniform(0.001, 0.1),
            "seed": tune.choice([0, 1, 2]),
        },
        tune_config=tune.TuneConfig(
            metric="elbo",
            mode="max",
            num_samples=arguments.configurations,
            max_concurrent_trials=arguments.trials,
            search_alg=BasicVariantGenerator(random_state=0),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(output), name="peer", callbacks=[callback], verbose=0),
    )
    frame = tuner.fit().get_dataframe().sort_values("elbo", ascending=False)
    print(
        frame[["elbo", "config/guide", "config/learning_rate", "config/seed"]].head(20).to_string(index=False)
    )
    ray.shutdown()


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
    main()
