"""Write tests/data/irt.json: item response models with slopes, as another program fits them.

Program: the Python package mirt 1.2.0 (``pip install mirt==1.2.0``), EM with 81 points, tolerance
1e-9. Its quadrature weights are normalised to one, which moves -2LL by less than 1e-3.

    python scripts/regenerate_reference_irt.py tests/data/VerbAgg.csv.gz irt.json
"""

from __future__ import annotations

import json
import sys

import mirt
import numpy as np
import pandas as pd

SCORES = {"no": 0, "perhaps": 1, "yes": 2}


def fitted(responses: np.ndarray, model: str, n_categories: int) -> dict[str, object]:
    """Criterion, slopes and difficulties of one model."""
    more = {} if n_categories == 2 else {"n_categories": n_categories}
    result = mirt.fit_mirt(responses, model=model, n_quadpts=81, max_iter=5000, tol=1e-9, **more)
    slopes, difficulties = list(result.model.parameters.values())[:2]
    return {
        "source": "mirt 1.2.0 (Python)",
        "minus2ll": -2.0 * result.log_likelihood,
        "discrimination": np.asarray(slopes).ravel().round(6).tolist(),
        "difficulty": np.asarray(difficulties).ravel().round(6).tolist(),
    }


def main(source: str, target: str) -> None:
    """Fit three models to the verbal aggression data, items in alphabetical order."""
    table = pd.read_csv(source)
    table["score"] = table["resp"].map(SCORES)
    wide = table.pivot(index="id", columns="item", values="score").to_numpy().astype(int)
    found = {
        "2pl": fitted((wide > 0).astype(int), "2PL", 2),
        "graded": fitted(wide, "GRM", 3),
        "gpcm": fitted(wide, "GPCM", 3),
    }
    with open(target, "w", encoding="utf-8") as out:
        json.dump({"VerbAgg": found}, out, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
