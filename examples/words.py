"""Codes of documents and of words: a denoising autoencoder of word counts, against latent semantic analysis.

Half of each test document's words look for the other half among all test documents, by the cosine of their codes.
A word's code is what it takes part in: its column in the decoder.

    python examples/words.py          # 20 newsgroups; without them, the docstrings of SciPy
"""

import importlib
import inspect

import numpy as np
import scipy.io
import scipy.sparse as sp
import torch
from _shared import shared
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

import psiphi as pp

SIZE, QUERIES = 128, 2000
WORDS = ["space", "god", "windows", "car", "hockey", "encryption", "doctor", "israel"]


def newsgroups(folder):
    """Counts of the training and the test documents, (documents, words), and the words."""
    counts = []
    for part in ("tr", "ts"):
        words, times = (
            [each.ravel() for each in scipy.io.loadmat(folder / f"bow_{part}_{what}.mat")[what][0]]
            for what in ("tokens", "counts")
        )
        rows = np.repeat(np.arange(len(words)), [len(each) for each in words])
        columns, values = np.concatenate(words).astype(int), np.concatenate(times).astype(int)
        counts.append((rows, columns, values, len(words)))
    vocabulary = (folder / "vocab.txt").read_text().split()
    return *(sp.csr_matrix((v, (r, c)), (n, len(vocabulary))) for r, c, v, n in counts), vocabulary


def docstrings():
    """The same of SciPy's documentation, every fourth docstring for the test."""
    modules = [
        importlib.import_module(f"scipy.{each}")
        for each in ["stats", "signal", "linalg", "optimize", "special"]
    ]
    found = {
        inspect.getdoc(getattr(m, name)) for m in modules for name in m.__all__ if not name.startswith("_")
    }
    texts = sorted(text for text in found if text and len(text) > 600)
    reader = CountVectorizer(stop_words="english", min_df=5, token_pattern="[a-z]{3,}")
    counts = reader.fit_transform(texts)
    held = np.arange(len(texts)) % 4 == 0
    return counts[~held], counts[held], list(reader.get_feature_names_out())


def halves(counts, rng):
    """Each occurrence of a word goes to one of two halves by the toss of a coin."""
    found = counts.tocoo()
    first = rng.binomial(found.data, 0.5)
    both = [sp.csr_matrix((v, (found.row, found.col)), counts.shape) for v in (first, found.data - first)]
    for each in both:
        each.eliminate_zeros()
    return both


def unit(codes):
    return codes / np.linalg.norm(codes, axis=1, keepdims=True).clip(1e-12)


def retrieval(name, queries, targets):
    found = unit(queries) @ unit(targets).T
    rank = (found > np.diag(found)[:, None]).sum(1)
    print(f"{name:<28} {(rank < 1).mean():>6.1%} {(rank < 10).mean():>8.1%}")


def nearest(word, codes, words, count=5):
    order = np.argsort(-(unit(codes) @ unit(codes[[words.index(word)]]).T).ravel())
    return " ".join(words[i] for i in order[1 : count + 1])


folder = shared("newsgroups", "the docstrings of SciPy serve instead")
train, test, words = newsgroups(folder) if folder else docstrings()
long = np.asarray(test.sum(1)).ravel() >= 40
first, second = halves(test[long][:QUERIES], np.random.default_rng(0))

weigh = TfidfTransformer(sublinear_tf=True).fit(train)
x, a, b = (weigh.transform(each).toarray().astype("float32") for each in (train, first, second))
print(f"{len(x)} documents, {x.shape[1]} words; {len(a)} halves look for their other half\n")

lsa = TruncatedSVD(SIZE, random_state=0).fit(x)
dae = pp.zoo.denoising_ae(x.shape[1], SIZE, corruption="masking:0.5", hidden=())
pp.fit(dae, x, epochs=4 if folder else 40)

print(f"{'':<28} {'first':>6} {'in ten':>8}")
retrieval("tf-idf, every word", a, b)
retrieval(f"LSA, {SIZE} numbers", lsa.transform(a), lsa.transform(b))
with torch.no_grad():
    retrieval(f"denoising ae, {SIZE} numbers", dae.encode(a).numpy(), dae.encode(b).numpy())

codes = pp.evaluation.atoms(dae, x[:2000]).numpy().T
chosen = WORDS if folder else ["matrix", "filter", "random", "bessel", "eigenvalues", "root"]
print("\nThe words nearest to a word, by the decoder and by LSA:")
for word in chosen:
    print(f"  {word:<12} {nearest(word, codes, words):<55} | {nearest(word, lsa.components_.T, words)}")
