"""The posteriors of the trial as PyMC models, the same coordinates as in `experiments`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

Data = dict[str, Any]


def ar5(data: Data) -> None:
    """An autoregressive process of order 5."""
    y = data["y"]
    before = np.stack([y[5 - k : len(y) - k] for k in range(1, 6)], 1)
    alpha, beta = pm.Normal("alpha", 0, 10), pm.Normal("beta", 0, 10, shape=5)
    pm.Normal("observed", alpha + before @ beta, pm.HalfCauchy("sigma", 2.5), observed=y[5:])


def diamonds(data: Data) -> None:
    """A regression on nearly collinear columns."""
    centred = data["design"] - data["design"].mean(0)
    b, intercept = pm.Normal("b", 0, 1, shape=24), pm.StudentT("intercept", nu=3, mu=8, sigma=10)
    sigma = pm.HalfStudentT("sigma", 3, 10)
    pm.Normal("observed", intercept + centred @ b, sigma, observed=data["log_price"])


def earnings(data: Data) -> None:
    """A regression with an interaction."""
    z, male = (data["height"] - data["height"].mean()) / data["height"].std(ddof=1), data["male"]
    design = np.stack([np.ones_like(z), z, male, z * male], 1)
    beta, sigma = pm.Normal("beta", 0, 1000, shape=4), pm.HalfNormal("sigma", 1000)
    pm.Normal("observed", design @ beta, sigma, observed=np.log(data["earn"]))


def eight_schools(data: Data) -> None:
    """The eight schools, non-centred."""
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    theta = pm.Deterministic("theta", mu + tau * pm.Normal("theta_offset", 0, 1, shape=8))
    pm.Normal("observed", theta, data["sigma"], observed=data["y"])


def german_credit(data: Data) -> None:
    """A logistic regression."""
    features = data["features"]
    standardised = (features - features.mean(0)) / features.std(0)
    design = np.concatenate([np.ones((len(features), 1)), standardised], 1)
    pm.Bernoulli("observed", logit_p=design @ pm.Normal("beta", 0, 1, shape=25), observed=data["bad"])


def gp_regr(data: Data) -> None:
    """A Gaussian process."""
    x = data["x"]
    rho, alpha, sigma = pm.Gamma("rho", 25, 4), pm.HalfNormal("alpha", 2), pm.HalfNormal("sigma", 1)
    smooth = alpha**2 * pt.exp(-0.5 * (x[:, None] - x[None]) ** 2 / rho**2)
    pm.MvNormal("observed", np.zeros(len(x)), cov=smooth + sigma * np.eye(len(x)), observed=data["y"])


def hmm_example(data: Data) -> None:
    """A hidden Markov model; mu is the first level and the distance to the second, both positive."""
    rows = [pm.Dirichlet(name, np.ones(2)) for name in ("theta1", "theta2")]
    low, apart = pm.TruncatedNormal("low", 3, 1, lower=0), pm.HalfFlat("apart")
    mu = pm.Deterministic("mu", pt.stack([low, low + apart]))
    pm.Potential("high", pm.logp(pm.Normal.dist(10, 1), mu[1]))
    emission = -0.5 * (data["y"][:, None] - mu) ** 2 - 0.5 * np.log(2 * np.pi)
    steps, count = pt.log(pt.stack(rows)) + emission[1:, None, :], len(data["y"]) - 1
    while count > 1:
        pairs = count // 2
        first, second = steps[0 : 2 * pairs : 2], steps[1 : 2 * pairs : 2]
        product = pt.logsumexp(first[:, :, :, None] + second[:, None, :, :], axis=2)
        steps, count = pt.concatenate([product, steps[2 * pairs :]]), count - pairs
    pm.Potential("paths", pt.logsumexp(emission[0][:, None] + steps[0]))


def kidiq(data: Data) -> None:
    """A regression whose columns have unlike units."""
    design = np.stack([np.ones(len(data["score"])), data["mom_hs"], data["mom_iq"]], 1)
    beta, sigma = pm.Normal("beta", 0, 1000, shape=3), pm.HalfCauchy("sigma", 2.5)
    pm.Normal("observed", design @ beta, sigma, observed=data["score"])


def lynx_hare(data: Data) -> None:
    """The Lotka-Volterra equations, by the same solver as in `experiments`."""
    centre, spread = np.array([1, 0.05, 1, 0.05]), np.array([0.5, 0.05, 0.5, 0.05])
    theta = pm.TruncatedNormal("theta", centre, spread, lower=0, shape=4)
    z_init, sigma = pm.LogNormal("z_init", np.log(10), 1, shape=2), pm.LogNormal("sigma", -1, 1, shape=2)
    own, other = pt.stack([theta[0], -theta[2]]), pt.stack([-theta[1], theta[3]])

    def slope(x: Any) -> Any:
        return own + other * pt.exp(x)[::-1]

    x, found = pt.log(z_init), []
    for step in range(2 * len(data["pelts"])):
        a = slope(x)
        b = slope(x + a / 4)
        c = slope(x + b / 4)
        x = x + (a + 2 * (b + c) + slope(x + c / 2)) / 12
        found += [x] if step % 2 else []
    pm.LogNormal("first", pt.log(z_init), sigma, observed=data["first"])
    pm.LogNormal("observed", pt.stack(found), sigma, observed=data["pelts"])


def mesquite(data: Data) -> None:
    """A regression on logarithms."""
    long, short = np.log(data["diam1"]), np.log(data["diam2"])
    columns = [long + short + np.log(data["canopy_height"]), long + short, long - short]
    columns += [np.log(data["total_height"]), np.log(data["density"]), data["group"]]
    design = np.stack([np.ones_like(long), *columns], 1)
    beta, sigma = pm.Normal("beta", 0, 1000, shape=7), pm.HalfNormal("sigma", 1000)
    pm.Normal("observed", design @ beta, sigma, observed=np.log(data["weight"]))


def radon_all(data: Data) -> None:
    """Varying intercepts, two covariates."""
    _radon(data, pm.Normal("beta", 0, 10, shape=2), np.stack([data["log_uranium"], data["floor"]], 1), 3.0)


def radon_mn(data: Data) -> None:
    """Varying intercepts, one covariate."""
    _radon(data, pm.Normal("beta", 0, 10)[None], data["floor"][:, None], 5.0)


def _radon(data: Data, beta: Any, covariates: Any, homes_as_good: float) -> None:
    homes = np.bincount(data["county"])
    w = homes / (homes + homes_as_good)
    mu, sigma_alpha = pm.Normal("mu_alpha", 0, 10), pm.HalfNormal("sigma_alpha", 1)
    part = pm.Normal("alpha_part", w * mu, sigma_alpha**w, shape=len(homes))
    alpha = pm.Deterministic("alpha", mu + sigma_alpha ** (1 - w) * (part - w * mu))
    mean = alpha[data["county"]] + covariates @ beta
    pm.Normal("observed", mean, pm.HalfNormal("sigma_y", 1), observed=data["log_radon"])


def sblrc(data: Data) -> None:
    """A regression with correlated coefficients."""
    beta, sigma = pm.Normal("beta", 0, 10, shape=5), pm.HalfNormal("sigma", 10)
    pm.Normal("observed", data["x"] @ beta, sigma, observed=data["y"])


def wells(data: Data) -> None:
    """A logistic regression with an interaction."""
    distance = (data["dist"] - data["dist"].mean()) / 100
    arsenic = data["arsenic"] - data["arsenic"].mean()
    design = np.stack([distance, arsenic, distance * arsenic], 1)
    logits = pm.Normal("alpha", 0, 100) + design @ pm.Normal("beta", 0, 100, shape=3)
    pm.Bernoulli("observed", logit_p=logits, observed=data["switched"])
