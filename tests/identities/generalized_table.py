"""Which generalized models are supported: outcomes x designs x approximations x weights.

``OUTCOMES`` names every family with every link and every argument that changes the likelihood of a
row; ``DESIGNS`` the designs of random effects, and which of them quadrature takes. Every
combination of the two is supported. ``WEIGHTS`` says which outcomes take which weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from multilevel.model.families.bounded import BOUNDED
from multilevel.model.families.catalogue import FAMILIES
from multilevel.model.families.categories import CATEGORY_LINKS
from multilevel.model.families.zero import COUNTS, WITHOUT_ZEROS


@dataclass(frozen=True)
class Outcome:
    """One kind of outcome: a column of ``table`` and the arguments of ``fit``.

    ``density`` names the row's density in ``densities``; ``right`` the fixed effects.
    """

    response: str
    family: str
    link: str
    options: dict[str, Any] = field(default_factory=dict)
    density: str = ""
    right: str = "x"

    @property
    def name(self) -> str:
        """For the names of tests."""
        said = [f"{k}={v}" for k, v in self.options.items()]
        return "-".join([self.family, self.link, *said])

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of ``fit`` but formula and data."""
        family = self.family.removeprefix("censored_")
        return {"family": family, "link": self.link, **self.options}


DESIGNS = {
    "nested intercept": "(1 | g)",
    "nested slope": "(x | g)",
    "crossed intercept": "(1 | g) + (1 | h)",
    "crossed slope": "(x | g) + (1 | h)",
    "three levels": "(1 | g) + (1 | top)",
}
WITH_QUADRATURE = ("nested intercept", "nested slope", "three levels")

RESPONSES = {
    "binomial": "binary", "poisson": "count", "negative_binomial": "count",
    "negative_binomial_1": "count", "generalized_poisson": "count", "gaussian": "number",
    "student": "number", "lognormal": "positive", "gamma": "positive",
    "inverse_gaussian": "wald", "beta": "share", "tweedie": "semi",
    "censored_gaussian": "interval(low, high)", "censored_lognormal": "interval(elow, ehigh)",
    "ordered_beta": "bounded", "zero_one_inflated_beta": "bounded",
    "cumulative": "grade", "continuation_ratio": "grade", "adjacent": "grade", "nominal": "grade",
}  # fmt: skip
#: Other responses where a link bounds the predictor.
FOR_LINK = {
    ("poisson", "identity"): "many", ("poisson", "sqrt"): "many", ("gaussian", "log"): "large",
    ("gamma", "inverse"): "small", ("binomial", "log"): "rare",
}  # fmt: skip


def outcomes() -> list[Outcome]:
    """All of them: every name and link of the catalogues, then the arguments."""
    found = []
    for family, entry in FAMILIES.items():
        for link in entry.links:
            response = FOR_LINK.get((family, link), RESPONSES[family])
            # a Gaussian model with nothing else said belongs to the Gaussian engine
            more = {"dispersion": "~ x"} if (family, link) == ("gaussian", "identity") else {}
            found.append(Outcome(response, family, link, more, family))
    found += [Outcome(RESPONSES[f], f, "logit", {}, f) for f in BOUNDED]
    for family, links in CATEGORY_LINKS.items():
        found += [Outcome("grade", family, link, {}, family) for link in links]
        if family != "nominal":
            found.append(Outcome("grade", family, "logit", {"thresholds": "~ x"}, family, "1"))
    for family in COUNTS:
        found += [
            Outcome("inflated", family, "log", {"zero": "~ x"}, f"zero_inflated_{family}"),
            Outcome("zeros", family, "log", {"hurdle": "~ x"}, f"hurdle_{family}"),
            Outcome("above", family, "log", {"truncated": True}, f"truncated_{family}"),
        ]
    for family, response in zip(WITHOUT_ZEROS, ("semi", "wald0", "semi", "share0"), strict=True):
        link = FAMILIES[family].links[0]
        found.append(Outcome(response, family, link, {"hurdle": "~ 1"}, f"hurdle_{family}"))
    for family, entry in FAMILIES.items():
        own = any(part.argument == "dispersion" for part in entry.parts)
        if own and family != "gaussian":
            option = {"dispersion": "~ x"}
            found.append(Outcome(RESPONSES[family], family, entry.links[0], option, family))
    found += [Outcome("bounded", f, "logit", {"dispersion": "~ x"}, f) for f in BOUNDED]
    found.append(
        Outcome("bounded", "zero_one_inflated_beta", "logit", {"zero": "~ x"},
                "zero_one_inflated_beta")
    )  # fmt: skip
    return found


OUTCOMES = outcomes()
#: Families whose dispersion precision weights divide.
WITH_PRECISION = ("gaussian", "lognormal", "student", "gamma", "inverse_gaussian", "tweedie")


def table(seed: int = 11, clusters: int = 28, rows: int = 10) -> dict[str, np.ndarray]:
    """Simulated responses of every kind; effects of ``g``, ``h``, ``top`` and slopes by ``g``."""
    rng = np.random.default_rng(seed)
    n = clusters * rows
    g = np.repeat(np.arange(clusters), rows)
    h, x = rng.integers(0, 9, n), rng.normal(size=n)
    eta = 0.2 + 0.4 * x + 0.6 * rng.normal(size=clusters)[g] + 0.4 * rng.normal(size=9)[h]
    eta += 0.35 * rng.normal(size=clusters)[g] * x + 0.5 * rng.normal(size=7)[g // 4]
    p, mu = 1 / (1 + np.exp(-eta)), np.exp(eta)
    number = eta + rng.standard_t(5, size=n)
    low = np.where(number < -1, -np.inf, number)
    count = rng.negative_binomial(2, 2 / (2 + mu))
    positive, wald = rng.gamma(3, mu / 3), rng.wald(np.exp(0.4 * eta), 3.0)
    share = np.clip(rng.beta(5 * p, 5 * (1 - p)), 1e-5, 1 - 1e-5)
    none = rng.random(n) < 0.2
    # counts without zeros tell little about small means: larger ones here
    more = 4.0 * np.exp(0.6 * eta)
    counted = np.column_stack([rng.negative_binomial(more / 0.5, 1 / 1.5) for _ in range(40)])
    above = counted[np.arange(n), np.argmax(counted > 0, axis=1)]
    return {
        "g": g, "h": h, "top": g // 4, "x": x,
        "w": rng.integers(1, 4, n), "p": rng.uniform(0.5, 2.0, n),
        "time": rng.uniform(0.5, 2.0, n), "shift": 0.3 * rng.normal(size=n),
        "binary": (rng.random(n) < p) * 1.0,
        "rare": (rng.random(n) < np.exp(-2 + 0.15 * eta)) * 1.0,
        "count": count, "many": rng.poisson(np.clip(9 + eta, 1, None)),
        "zeros": np.where(none, 0, above), "inflated": np.where(none, 0, counted[:, 0]),
        "above": above,
        "number": number, "large": 5 * np.exp(0.2 * eta) + 0.4 * rng.normal(size=n),
        "positive": positive, "small": rng.gamma(4, 1 / (4 * np.clip(3 + 0.4 * eta, 0.5, None))),
        "wald": wald, "wald0": np.where(none, 0.0, wald), "semi": np.where(none, 0.0, positive),
        "share": share, "share0": np.where(none, 0.0, share),
        "bounded": np.where(none, 0.0, np.where(rng.random(n) < 0.15, 1.0, share)),
        "grade": np.digitize(eta + rng.logistic(size=n), [-0.7, 1.2]),
        "low": np.where(np.isinf(low), np.nan, low), "high": np.maximum(number, -1.0),
        "elow": np.where(np.isinf(low), np.nan, np.exp(np.maximum(number, -1.0))),
        "ehigh": np.exp(np.maximum(number, -1.0)),
    }  # fmt: skip
