"""What the examples share: sizes for a quick run, and where larger data are found.

`--quick` after a script's name makes it small enough for a test. Larger data lie in the folder PSIPHI_DATA, else in
../shared/data beside the project.
"""

import os
import sys
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse as sp


def size(normal, quick):
    """The second where the script was called with --quick."""
    return quick if "--quick" in sys.argv else normal


def named(instead):
    """The file or folder named after the script, else `instead`."""
    return next((each for each in sys.argv[1:] if not each.startswith("--")), instead)


def shared(name, instead):
    """The folder `name` of the shared data; None where it is absent, and a sentence that says what serves instead."""
    data = Path(os.environ.get("PSIPHI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if (data / name).is_dir():
        return data / name
    print(f"There is no {data / name} (set PSIPHI_DATA to the folder that holds {name}/): {instead}.\n")
    return None


def newsgroups(folder):
    """Counts of words of the training and of the test documents, (documents, words), and the words."""
    vocabulary = (folder / "vocab.txt").read_text().split()

    def counts(part):
        words, times = (
            scipy.io.loadmat(folder / f"bow_{part}_{what}.mat")[what][0] for what in ("tokens", "counts")
        )
        rows = np.repeat(np.arange(len(words)), [each.size for each in words])
        columns, values = (np.concatenate([each.ravel() for each in found]) for found in (words, times))
        return sp.csr_matrix((values.astype(int), (rows, columns)), (len(words), len(vocabulary)))

    return counts("tr"), counts("ts"), vocabulary
