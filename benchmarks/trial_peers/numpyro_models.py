"""The posteriors of the trial as NumPyro models, the same coordinates as in `experiments`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

Data = dict[str, Any]


def _linear(name: str, design: Any, observed: Any, prior: Any, sigma_prior: Any) -> None:
    coefficients = numpyro.sample(name, prior.expand([design.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", sigma_prior)
    numpyro.sample("observed", dist.Normal(design @ coefficients, sigma), obs=observed)


def ar5(data: Data) -> None:
    """An autoregressive process of order 5."""
    y = data["y"]
    before = jnp.stack([y[5 - k : len(y) - k] for k in range(1, 6)], 1)
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([5]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("observed", dist.Normal(alpha + before @ beta, sigma), obs=y[5:])


def diamonds(data: Data) -> None:
    """A regression on nearly collinear columns."""
    centred = data["design"] - data["design"].mean(0)
    b = numpyro.sample("b", dist.Normal(0, 1).expand([24]).to_event(1))
    intercept = numpyro.sample("intercept", dist.StudentT(3, 8, 10))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3, 0, 10)))
    numpyro.sample("observed", dist.Normal(intercept + centred @ b, sigma), obs=data["log_price"])


def earnings(data: Data) -> None:
    """A regression with an interaction."""
    height, male = np.asarray(data["height"]), np.asarray(data["male"])
    z = (height - height.mean()) / height.std(ddof=1)
    design = np.stack([np.ones_like(z), z, male, z * male], 1)
    _linear("beta", design, np.log(data["earn"]), dist.Normal(0, 1000), dist.HalfNormal(1000))


def eight_schools(data: Data) -> None:
    """The eight schools, non-centred."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    offset = numpyro.sample("theta_offset", dist.Normal(0, 1).expand([8]).to_event(1))
    theta = numpyro.deterministic("theta", mu + tau * offset)
    numpyro.sample("observed", dist.Normal(theta, data["sigma"]), obs=data["y"])


def german_credit(data: Data) -> None:
    """A logistic regression."""
    features = np.asarray(data["features"])
    standardised = (features - features.mean(0)) / features.std(0)
    design = np.concatenate([np.ones((len(features), 1)), standardised], 1)
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([25]).to_event(1))
    numpyro.sample("observed", dist.Bernoulli(logits=design @ beta), obs=data["bad"])


def gp_regr(data: Data) -> None:
    """A Gaussian process."""
    x = data["x"]
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    smooth = alpha**2 * jnp.exp(-0.5 * (x[:, None] - x[None]) ** 2 / rho**2)
    covariance = smooth + sigma * jnp.eye(len(x))
    numpyro.sample("observed", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=data["y"])


def hmm_example(data: Data) -> None:
    """A hidden Markov model; mu is the first level and the distance to the second, both positive."""
    theta1 = numpyro.sample("theta1", dist.Dirichlet(jnp.ones(2)))
    theta2 = numpyro.sample("theta2", dist.Dirichlet(jnp.ones(2)))
    low = numpyro.sample("low", dist.TruncatedNormal(3, 1, low=0))
    apart = numpyro.sample("apart", dist.ImproperUniform(dist.constraints.positive, (), ()))
    mu = numpyro.deterministic("mu", jnp.stack([low, low + apart]))
    numpyro.factor("high", dist.Normal(10, 1).log_prob(mu[1]))
    emission = dist.Normal(mu, 1).log_prob(data["y"][:, None])
    steps = jnp.log(jnp.stack([theta1, theta2])) + emission[1:, None, :]
    while len(steps) > 1:
        pairs = len(steps) // 2
        product = logsumexp(steps[: 2 * pairs : 2][:, :, :, None] + steps[1 : 2 * pairs : 2][:, None], 2)
        steps = jnp.concatenate([product, steps[2 * pairs :]])
    numpyro.factor("paths", logsumexp(emission[0][:, None] + steps[0]))


def kidiq(data: Data) -> None:
    """A regression whose columns have unlike units."""
    design = np.stack([np.ones(len(data["score"])), data["mom_hs"], data["mom_iq"]], 1)
    _linear("beta", design, data["score"], dist.Normal(0, 1000), dist.HalfCauchy(2.5))


def lynx_hare(data: Data) -> None:
    """The Lotka-Volterra equations, by the same solver as in `experiments`."""
    centre, spread = jnp.array([1, 0.05, 1, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])
    theta = numpyro.sample("theta", dist.TruncatedNormal(centre, spread, low=0).to_event(1))
    z_init = numpyro.sample("z_init", dist.LogNormal(jnp.full(2, np.log(10.0)), 1).to_event(1))
    sigma = numpyro.sample("sigma", dist.LogNormal(jnp.full(2, -1.0), 1).to_event(1))
    own, other = jnp.stack([theta[0], -theta[2]]), jnp.stack([-theta[1], theta[3]])

    def slope(x: Any) -> Any:
        return own + other * jnp.exp(x)[::-1]

    x, found = jnp.log(z_init), []
    for step in range(2 * len(data["pelts"])):
        a = slope(x)
        b = slope(x + a / 4)
        c = slope(x + b / 4)
        x = x + (a + 2 * (b + c) + slope(x + c / 2)) / 12
        found += [x] if step % 2 else []
    numpyro.sample("first", dist.LogNormal(jnp.log(z_init), sigma), obs=data["first"])
    numpyro.sample("observed", dist.LogNormal(jnp.stack(found), sigma), obs=data["pelts"])


def mesquite(data: Data) -> None:
    """A regression on logarithms."""
    long, short = np.log(data["diam1"]), np.log(data["diam2"])
    columns = [long + short + np.log(data["canopy_height"]), long + short, long - short]
    columns += [np.log(data["total_height"]), np.log(data["density"]), np.asarray(data["group"])]
    design = np.stack([np.ones_like(columns[0]), *columns], 1)
    _linear("beta", design, np.log(data["weight"]), dist.Normal(0, 1000), dist.HalfNormal(1000))


def radon_all(data: Data) -> None:
    """Varying intercepts, two covariates."""
    _radon(data, np.stack([data["log_uranium"], data["floor"]], 1), 3.0)


def radon_mn(data: Data) -> None:
    """Varying intercepts, one covariate."""
    _radon(data, np.asarray(data["floor"])[:, None], 5.0)


def _radon(data: Data, covariates: Any, homes_as_good: float) -> None:
    county = np.asarray(data["county"])
    homes = np.bincount(county)
    w = homes / (homes + homes_as_good)
    mu = numpyro.sample("mu_alpha", dist.Normal(0, 10))
    sigma_alpha = numpyro.sample("sigma_alpha", dist.HalfNormal(1))
    columns = covariates.shape[1]
    shape = [columns] if columns > 1 else []
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand(shape).to_event(len(shape)))
    sigma_y = numpyro.sample("sigma_y", dist.HalfNormal(1))
    part = numpyro.sample("alpha_part", dist.Normal(w * mu, sigma_alpha**w).to_event(1))
    alpha = numpyro.deterministic("alpha", mu + sigma_alpha ** (1 - w) * (part - w * mu))
    mean = alpha[county] + covariates @ jnp.reshape(beta, columns)
    numpyro.sample("observed", dist.Normal(mean, sigma_y), obs=data["log_radon"])


def sblrc(data: Data) -> None:
    """A regression with correlated coefficients."""
    _linear("beta", data["x"], data["y"], dist.Normal(0, 10), dist.HalfNormal(10))


def wells(data: Data) -> None:
    """A logistic regression with an interaction."""
    distance = (data["dist"] - np.mean(data["dist"])) / 100
    arsenic = data["arsenic"] - np.mean(data["arsenic"])
    design = np.stack([distance, arsenic, distance * arsenic], 1)
    alpha = numpyro.sample("alpha", dist.Normal(0, 100))
    beta = numpyro.sample("beta", dist.Normal(0, 100).expand([3]).to_event(1))
    numpyro.sample("observed", dist.Bernoulli(logits=alpha + design @ beta), obs=data["switched"])
