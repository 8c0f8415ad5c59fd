"""Codes of documents and of words: a denoising autoencoder of word counts, against latent semantic analysis.

Half of each test document's words look for the other half among all test documents, by the cosine of their codes.
A word's code is what it takes part in: its column in the decoder.

    python examples/words.py          # 20 newsgroups; without them, the docstrings of SciPy
"""

import importlib
import inspect

import numpy as np
import torch
from _shared import newsgroups, shared, size
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction import text
from sklearn.metrics.pairwise import cosine_similarity

import psiphi as pp

SIZE = 128  # numbers a document
NEWS, SCIPY = "space god windows car hockey encryption doctor israel", "matrix filter random bessel root"


def docstrings(modules=("stats", "signal", "linalg", "optimize", "special")):
    """Counts of words in SciPy's documentation, every fourth docstring for the test, and the words."""
    homes = [importlib.import_module(f"scipy.{each}") for each in modules]
    found = {inspect.getdoc(getattr(home, name)) for home in homes for name in home.__all__}
    pages = sorted(page for page in found if page and len(page) > 600)
    reader = text.CountVectorizer(stop_words="english", min_df=5, token_pattern="[a-z]{3,}")
    counts, held = reader.fit_transform(pages), np.arange(len(pages)) % 4 == 0
    return counts[~held], counts[held], list(reader.get_feature_names_out())


def halves(counts, rng):
    """Each occurrence of a word goes to one of two halves by the toss of a coin."""
    first = counts.copy()
    first.data = rng.binomial(counts.data, 0.5)
    second = counts - first
    first.eliminate_zeros()
    return first, second


def retrieval(name, queries, targets):
    found = cosine_similarity(targets, queries)
    rank = (found > found.diagonal()).sum(0)  # how many are nearer than its other half
    print(f"{name:<28} {(rank < 1).mean():>6.1%} {(rank < 10).mean():>8.1%}")


def nearest(word, codes, words):
    order = np.argsort(-cosine_similarity(codes[[words.index(word)]], codes)[0])
    return " ".join(words[i] for i in order[1:6])


folder = shared("newsgroups", "the docstrings of SciPy serve instead")
train, test, words = newsgroups(folder) if folder else docstrings()
test = test[np.asarray(test.sum(1)).ravel() >= 40][: size(2000, 50)]  # documents of 40 words and more
first, second = halves(test, np.random.default_rng(0))

weigh = text.TfidfTransformer(sublinear_tf=True).fit(train)
x, a, b = (weigh.transform(each).toarray().astype("float32") for each in (train, first, second))
print(f"{len(x)} documents, {x.shape[1]} words; {len(a)} halves look for their other half\n")

lsa = TruncatedSVD(SIZE, random_state=0).fit(x)
dae = pp.zoo.denoising_ae(x.shape[1], SIZE, corruption="masking:0.5", hidden=())
pp.fit(dae, x, epochs=size(4 if folder else 40, 1))

print(f"{'':<28} {'first':>6} {'in ten':>8}")
retrieval("tf-idf, every word", a, b)
retrieval(f"LSA, {SIZE} numbers", lsa.transform(a), lsa.transform(b))
with torch.no_grad():
    retrieval(f"denoising ae, {SIZE} numbers", dae.encode(a).numpy(), dae.encode(b).numpy())

codes = pp.evaluation.atoms(dae, x[:2000]).numpy().T
print("\nThe words nearest to a word, by the decoder and by LSA:")
for word in (NEWS if folder else SCIPY).split():
    print(f"  {word:<12} {nearest(word, codes, words):<55} | {nearest(word, lsa.components_.T, words)}")
