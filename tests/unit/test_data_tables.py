"""Tables: what is read of them, how it is coded, and a sentence for each that cannot be."""

from __future__ import annotations

import datetime
import sys

import numpy as np
import pandas
import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError, DataError, FileError, PsiphiError
from psiphi.data import Column, Columns, describe, load
from psiphi.data._tables import as_frame, fill_gaps, read_rows, write_table

exactly = dict(rtol=0, atol=0, equal_nan=True)
whole = dict(validation=0, test=0)

PEOPLE = """\
age,sex,city,smokes,target
31,m,Oslo,True,yes
,f,"Rome, Lazio",False,no
45.5,f,,,yes
22,m,Oslo,True,
"""
NAN = float("nan")
CODED = [[31.0, 1, 0, 1], [NAN, 0, 1, 0], [45.5, 0, NAN, NAN], [22.0, 1, 0, 1]]
SCHEMA = (
    Column("age", "numeric"),
    Column("sex", "categorical", ("f", "m")),
    Column("city", "categorical", ("Oslo", "Rome, Lazio")),
    Column("smokes", "categorical", ("False", "True")),
)


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def in_order(data):
    """Rows of the training split as the ages sort them, NaN last."""
    order = data.train.x[:, 0].argsort()
    return data.train.x[order], None if data.train.y is None else data.train.y[order]


def same(data) -> None:
    """The four people of PEOPLE, whatever way they came."""
    x, y = in_order(data)
    assert_close(x, torch.tensor(CODED)[[3, 0, 2, 1]], **exactly)
    assert y.tolist() == [-1, 1, 1, 0]
    assert data.classes == ["no", "yes"]
    assert data.columns == SCHEMA
    assert data.columns.sizes == (0, 2, 2, 2)


def test_a_csv_is_coded(people):
    data = load(people, labels="target", **whole)
    same(data)
    assert data.train.x.dtype == torch.float32
    assert "1 numeric and 3 categorical columns" in repr(data)
    assert load(f"{people}:labels=target,validation=0,test=0").columns == SCHEMA


def test_a_parquet_and_a_frame_are_coded_alike(people, tmp_path):
    frame = pandas.read_csv(people)
    same(load(frame, labels="target", **whole))
    frame.to_parquet(tmp_path / "people.parquet", index=False)
    same(load(tmp_path / "people.parquet", labels="target", **whole))
    write_table(tmp_path / "again.parquet", frame)
    same(load(tmp_path / "again.parquet", labels="target", **whole))


def test_the_split_is_that_of_arrays(tmp_path):
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    pandas.DataFrame(x, columns=list("abc")).to_csv(tmp_path / "x.csv", index=False)
    table, array = load(tmp_path / "x.csv", seed=3), load(x, seed=3)
    for name, split in array.splits.items():
        assert_close(table.splits[name].x, split.x, **exactly)
    assert array.columns is None


def test_options_choose_what_a_column_is(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id;grade;score;kind\n1;3;?;2.5\n2;1;7;0.5\n3;3;-;2.5\n4;;8;2.5\n")
    data = load(f"{path}:separator=;,categorical=grade+kind,drop=id,missing=?+-,validation=0,test=0")
    assert data.columns == (
        Column("grade", "categorical", ("1", "3")),
        Column("score", "numeric"),
        Column("kind", "categorical", ("0.5", "2.5")),
    )
    rows = {tuple(row) for row in data.train.x.nan_to_num(-1).tolist()}
    assert rows == {(1, -1, 1), (0, 7, 0), (-1, 8, 1)}  # rows 1 and 3 are alike
    assert load(path, separator=";", categorical=["grade"], drop=["id", "score"]).shape == (2,)


def test_labels_that_are_numbers():
    """−1 and an empty field are unknown; a measurement is no label."""
    frame = pandas.DataFrame({"a": np.arange(6.0), "y": [2, None, 7, 2, -1, 7], "z": np.arange(6) / 7})
    data = load(frame, labels="y", drop="z", **whole)
    assert data.classes == ["2", "7"]
    assert in_order(data)[1].tolist() == [0, -1, 1, 0, -1, 1]
    with pytest.raises(DataError, match="no integers"):
        load(frame, labels="z")
    with pytest.raises(DataError, match="no label at all"):
        load(frame.assign(y=None), labels="y")


def test_kinds_of_frames():
    grade = pandas.Categorical(["low", "high", None, "low"], categories=["low", "middle", "high"])
    frame = pandas.DataFrame(
        {
            "grade": grade,
            "count": pandas.array([1, None, 3, 4], dtype="Int64"),
            "flag": pandas.array([True, False, None, True], dtype="boolean"),
            "text": ["1", "2.5", None, "4"],
            7: np.arange(4),
        }
    )
    data = load(frame, **whole)
    assert data.columns.names == ["grade", "count", "flag", "text", "7"]
    assert data.columns.sizes == (3, 0, 2, 0, 0)
    assert data.columns[0].categories == ("low", "middle", "high")
    x = data.train.x[data.train.x[:, 4].argsort()]
    wanted = [[0, 1, 1, 1, 0], [2, NAN, 0, 2.5, 1], [NAN, 3, NAN, NAN, 2], [0, 4, 1, 4, 3]]
    assert_close(x, torch.tensor(wanted), **exactly)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n", "one row"),
        (b"a,b\n1,2\n3,4,5\n", "line 3, has 3 fields, and the header 2"),
        (b"a,b\n1,2\n3\n4,5\n", "line 3, has 1 fields"),
        (b"a,b,a\n1,2,3\n4,5,6\n", "'a' more than once"),
        (b"a,\n1,2\n4,5\n", "column 2 has no name"),
        (b"1.5,2\n3,4\n5,6\n", "begins with numbers"),
        (b"a;b\n1;2\n3;4\n", "separator=;"),
        (b"a\tb\n1\t2\n3\t4\n", "separator=tab"),
        (b"a,b\n1,\n2,\n", "'b' has no value at all: drop it"),
        (b"a,b\n1,x\n2,1e39\n3,4\n4,5", "numbers and 'x'"),
        (b"a,b\n1,inf\n2,3\n", r"beyond .3\.4e38 \(row 0\)"),
        (b"a,b\n1,1e39\n2,3\n", r"beyond .3\.4e38"),
        (b"a,b\n\xff\xfe,1\n2,3\n", "no UTF-8"),
        (b'a,b\n"x,1\n2,3\n', "corrupt"),
        (b"a,b\n" + b"".join(b"n%d,1\n" % i for i in range(300)), "'a' takes 300 values.*drop=a"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_bad_csv(tmp_path, content, sentence):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises((FileError, DataError), match=sentence):
        load(path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(labels="targt"), "labels: .* no column 'targt'; did you mean target"),
        (dict(categorical="x+age"), "categorical: .* no column 'x'; it has age, sex"),
        (dict(drop="income"), "drop: .* no column 'income'"),
        (dict(separator="::"), "one character"),
        (dict(size=3), "no option 'size'; it takes labels, categorical, drop, missing, separator"),
        (dict(drop="age+sex+city+smokes", labels="target"), "no column left"),
    ],
    ids=str,
)
def test_bad_options(people, options, sentence):
    with pytest.raises(PsiphiError, match=sentence):
        load(people, **options)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([datetime.date(2020, 1, 1)] * 4, "holds date; numbers, text or booleans"),
        (pandas.to_datetime(["2020-01-01"] * 4), "holds datetime64"),
        ([[1], [2], [3], [4]], "holds list"),
        ([1j] * 4, "holds complex128"),
        (["1", "x", 2.5, {}], "holds str"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_that_are_no_data(values, sentence):
    with pytest.raises(DataError, match=sentence):
        load(pandas.DataFrame({"a": np.arange(4), "b": values}))


def test_corrupt_parquet(people, tmp_path):
    path = tmp_path / "x.parquet"
    pandas.read_csv(people).to_parquet(path)
    content = path.read_bytes()
    for bad, sentence in ((b"", "is empty"), (content[:-9], "corrupt"), (b"hello", "corrupt")):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=sentence):
            load(path)


def test_parquet_keeps_no_row_numbers(tmp_path):
    path = tmp_path / "x.parquet"
    pandas.DataFrame({"a": [1.0, 2, 3]}, index=["x", "y", "z"]).to_parquet(path)
    assert load(path).shape == (1,)


def test_without_pandas_one_sentence_says_what_to_install(people, monkeypatch):
    for package in ("pandas", "pyarrow"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ArgumentError, match="pip install pandas pyarrow"):
                load(people)


# ------------------------------------------------------------------------------------------- and back again
def test_rows_by_a_known_schema(people, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text('smokes,age,new,city,sex\n,50,z,"Rome, Lazio",m\nTrue,,z,,f\n')
    x, frame = read_rows(other, Columns(SCHEMA))
    assert_close(x, torch.tensor([[50, 1, 1, NAN], [NAN, 0, NAN, 1]]), **exactly)
    back = as_frame(x, Columns(SCHEMA))
    assert back["city"].tolist()[:1] == ["Rome, Lazio"]
    assert back["city"].isna().tolist() == [False, True]
    assert (frame["new"] == "z").all()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("age,sex,city\n1,m,Oslo\n", "no column 'smokes'"),
        ("age,sex,city,smokes\n1,x,Oslo,True\n", "has 'x', which the model does not know"),
        ("age,sex,city,smokes\nold,m,Oslo,True\n", "'age' is no number"),
        ("age,sex,city,smokes\n", "nothing to do"),
    ],
    ids=lambda value: "" if "\n" in value else value,
)
def test_rows_that_another_schema_has(tmp_path, content, sentence):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_rows(path, Columns(SCHEMA))


def test_filling_touches_gaps_alone(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("n,a,k\n1,0.1,x\n2,,y\n,0.30000000001,\n")
    x, frame = read_rows(path, load(path).columns)
    filled = fill_gaps(
        frame, as_frame(torch.where(x.isnan(), torch.tensor([1.5, 0.7, 0.0]), x), load(path).columns)
    )
    write_table(path, filled)
    assert path.read_text() == "n,a,k\n1,0.1,x\n2,0.7,y\n1.5,0.30000000001,x\n"
    with pytest.raises(ArgumentError, match=r"\.csv or \.parquet"):
        write_table(tmp_path / "x.xlsx", filled)


# ------------------------------------------------------------------------------------------------- schemas
def test_schemas_from_json_and_from_counts():
    assert Columns.of([list(each) for each in SCHEMA]) == SCHEMA
    assert Columns.of((0, 3)).sizes == (0, 3)
    assert Columns.of((0, 3))[1] == Column("x1", "categorical", ("0", "1", "2"))


@pytest.mark.parametrize(
    "value", [3, "ab", (0, -1), (0, 1.5), [("a", "text", ())], [("a", "numeric", ("x",))], [("a",)]], ids=str
)
def test_what_is_no_schema(value):
    with pytest.raises(ArgumentError, match="no schema"):
        Columns.of(value)


# --------------------------------------------------------------------------------------------- description
def test_describe_tells_of_each_column(people):
    found = describe(f"{people}:labels=target")
    age, sex, city, smokes = found.columns
    assert (age.low, age.high, age.missing, age.categories) == (22, 45.5, 1, {})
    assert age.mean == pytest.approx((31 + 45.5 + 22) / 3)
    assert (sex.categories, sex.missing, sex.low) == ({"f": 2, "m": 2}, 0, None)
    assert (city.categories, smokes.missing) == ({"Oslo": 2, "Rome, Lazio": 1}, 1)
    text = str(found)
    assert "column    city (categorical): 2 (Oslo: 2, Rome, Lazio: 1), 1 missing" in text
    assert any("columns=data.columns" in sentence for sentence in found.warnings)
    assert any("city=Rome, Lazio" in sentence for sentence in found.warnings)
    assert not describe("digits").columns
