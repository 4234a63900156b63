"""Build the shipped table src/multilevel/tables/data/hsb.dta from tests/data/Hsb82.csv.gz.

    python scripts/build_hsb.py

Run from the root of the repository. The file carries a fixed time stamp, so that a second run
gives the same bytes; its SHA-256 sum stands in src/multilevel/tables/data/README.md.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "data" / "Hsb82.csv.gz"
TARGET = ROOT / "src" / "multilevel" / "tables" / "data" / "hsb.dta"

VARIABLE_LABELS = {
    "school": "School",
    "minority": "Student belongs to a minority",
    "female": "Student is female",
    "ses": "Socioeconomic status of the student (standardised composite)",
    "mathach": "Mathematics achievement",
    "sector": "Sector of the school",
    "meanses": "Mean socioeconomic status of the school's students",
}
VALUE_LABELS = {
    "minority": {0: "No", 1: "Yes"},
    "female": {0: "Male", 1: "Female"},
    "sector": {0: "Public", 1: "Catholic"},
}


def build() -> pd.DataFrame:
    """Rename and code the columns of Hsb82; rows keep their order."""
    raw = pd.read_csv(SOURCE, dtype={"school": str})
    return pd.DataFrame(
        {
            "school": raw["school"].astype(object),
            "minority": (raw["minrty"] == "Yes").astype("int8"),
            "female": (raw["sx"] == "Female").astype("int8"),
            "ses": raw["ses"],
            "mathach": raw["mAch"],
            "sector": (raw["sector"] == "Catholic").astype("int8"),
            "meanses": raw["meanses"],
        }
    )


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    build().to_stata(
        TARGET,
        write_index=False,
        version=118,
        time_stamp=datetime.datetime(2000, 1, 1),
        data_label="High School and Beyond 1982",
        variable_labels=VARIABLE_LABELS,
        value_labels=VALUE_LABELS,
    )
