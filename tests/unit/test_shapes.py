"""What users hand over becomes a float batch of a known shape, or a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.errors import DataError, PsiphiError, ShapeError
from psiphi.basis.shapes import as_batch, as_float, as_shape, bad_rows, check_finite, show


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (5, (5,)),
        ((1, 8, 8), (1, 8, 8)),
        ([3, 4], (3, 4)),
        (torch.Size([2, 3]), (2, 3)),
        (np.int64(5), (5,)),
        (np.array([1, 8, 8]), (1, 8, 8)),
    ],
)
def test_a_shape_is_a_tuple_of_integers(given, wanted):
    found = as_shape(given)
    assert found == wanted
    assert all(type(n) is int for n in found)


@pytest.mark.parametrize("given", [(), 0, -3, (1, 0, 8), (4, -1), None, 2.5, (1, 2.5), "abc", (None, 3)])
def test_a_shape_that_is_none_gets_a_sentence(given):
    with pytest.raises(ShapeError, match="sizes of at least 1"):
        as_shape(given)


def test_show():
    assert show((1, 8, 8)) == "(1, 8, 8)"
    assert show([5]) == "(5)"


def test_bytes_are_fractions_of_255_and_floats_stay():
    levels = torch.arange(256, dtype=torch.uint8)
    assert_close(as_float(levels), torch.arange(256) / 255, rtol=0, atol=0)
    assert levels[255] == 255
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([-3.0, 0.5, 700.0], dtype=dtype)
        assert as_float(x) is x
    for dtype in (torch.bool, torch.int8, torch.int32, torch.int64):
        assert_close(
            as_float(torch.tensor([0, 1, 1]).to(dtype)), torch.tensor([0.0, 1.0, 1.0]), rtol=0, atol=0
        )


X = torch.arange(2 * 12, dtype=torch.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.flatten(1),
        X.numpy(),
        X.flatten(1).numpy(),
        X.tolist(),
        X.flatten(1).tolist(),
        X.long(),
        X.int().numpy(),
    ],
)
def test_a_batch_comes_as_floats_in_shape(given):
    found = as_batch(given, (3, 4))
    assert_close(found, X, rtol=0, atol=0)


def test_a_batch_keeps_its_precision_and_gradient():
    x = X.double().requires_grad_()
    found = as_batch(x.flatten(1), (3, 4))
    assert found.dtype == torch.float64
    found.sum().backward()
    assert_close(x.grad, torch.ones_like(x))
    assert as_batch(np.zeros((2, 12)), (3, 4)).dtype == torch.float64
    assert as_batch(torch.zeros(0, 3, 4), (3, 4)).shape == (0, 3, 4)


def test_one_sample_gets_a_sentence_of_its_own():
    with pytest.raises(
        ShapeError, match=r"z has shape \(3, 4\), one sample; a batch \(B, 3, 4\) .* z\[None\]"
    ):
        as_batch(X[0], (3, 4), "z")
    with pytest.raises(ShapeError, match=r"one sample; a batch \(B, 5\)"):
        as_batch(torch.zeros(5), (5,))


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 13), (2, 1, 3, 4), (12,), (), (2, 12, 1)])
def test_another_shape_gets_a_sentence(shape):
    with pytest.raises(ShapeError, match=r"the model takes \(B, 3, 4\)"):
        as_batch(torch.zeros(shape), (3, 4))


@pytest.mark.parametrize("given", [None, "abc", [[1, 2], [3]], object(), {"a": 1}, np.array(["a", "b"])])
def test_no_numbers_get_a_sentence(given):
    with pytest.raises(DataError, match="x is no array of numbers"):
        as_batch(given, (3, 4))


def test_complex_numbers_get_a_sentence():
    with pytest.raises(DataError, match="x is complex; give real numbers"):
        as_batch(torch.zeros(2, 12, dtype=torch.complex64), (3, 4))


def test_rows_that_are_not_finite_are_named():
    x = torch.zeros(9, 2, 3)
    x[1, 0, 2], x[4, 1, 1], x[8, 0, 0] = torch.nan, torch.inf, -torch.inf
    assert bad_rows(x).tolist() == [1, 4, 8]
    assert bad_rows(torch.zeros(9, 2)).tolist() == []
    assert bad_rows(torch.ones(3, 2, dtype=torch.uint8)).tolist() == []
    with pytest.raises(
        DataError, match=r"z has NaN or infinity in 3 of 9 rows \(rows 1, 4, 8\): remove or fill"
    ):
        check_finite(x, "z")
    with pytest.raises(DataError, match=r"rows 101, 104, 108\)"):
        check_finite(x, offset=100)
    x[:] = torch.nan
    with pytest.raises(DataError, match=r"in 9 of 9 rows \(rows 0, 1, 2, 3, 4, …\)"):
        check_finite(x)


def test_every_sentence_is_a_psiphi_error():
    assert issubclass(ShapeError, DataError)
    assert issubclass(DataError, PsiphiError)
    assert issubclass(DataError, ValueError)
