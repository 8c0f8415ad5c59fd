"""Where the examples find larger data: the folder PSIPHI_DATA, else ../shared/data beside the project."""

import os
from pathlib import Path

DATA = Path(os.environ.get("PSIPHI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def shared(name, instead):
    """The folder `name` of the shared data; None where it is absent, and a sentence that says what serves instead."""
    if (DATA / name).is_dir():
        return DATA / name
    print(f"There is no {DATA / name} (set PSIPHI_DATA to the folder that holds {name}/): {instead}.\n")
    return None
