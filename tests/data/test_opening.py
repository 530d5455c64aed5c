import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.conftest import Bytes, Everything, Numbers
from trainer.data.opening import open_data
from trainer.data.schema import Schema
from trainer.data.sources import BreastCancer, Csv, Digits, Libsvm, Npy, Text
from trainer.errors import UserError

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data sets aren't here")


class NoMissing(Numbers):
    takes = frozenset({"numeric", "categorical"})


def refused(source, algorithm=None):
    with pytest.raises(UserError) as caught:
        open_data(source, algorithm or Numbers(), seed=1)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_digits_come_with_classes_and_a_fifth_for_validation():
    opened = open_data(Digits(), Numbers(), seed=1)
    assert opened.schema.label.classes == tuple(range(10))
    assert (opened.train.rows, opened.validation.rows) == (1438, 359)
    assert opened.schema.columns == 64
    assert sum(opened.schema.label.counts) == opened.schema.rows == 1438


def test_bundled_sets_equal_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    for source, load in ((Digits, datasets.load_digits), (BreastCancer, datasets.load_breast_cancer)):
        ours, theirs = source().arrays(), load()
        assert np.array_equal(ours.x, theirs.data.astype(np.float32))
        labels = np.array(ours.classes)[ours.y.astype(int)]
        expected = theirs.target if source is Digits else theirs.target_names[theirs.target]
        assert np.array_equal(labels, expected)
    assert BreastCancer().arrays().names == list(theirs.feature_names)


def test_bundled_sets_are_opened_without_arrow():
    code = (
        "import sys\n"
        "from tests.data.conftest import Numbers\n"
        "from trainer.data.opening import open_data\n"
        "from trainer.data.sources import Digits\n"
        "open_data(Digits(), Numbers(), seed=1)\n"
        "print([m for m in ('pyarrow', 'datasets', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_statistics_are_of_the_training_rows_alone(write):
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 3, 9000)
    path = write("rows.csv", "a,y\n" + "".join(f"{v!r},{i % 3}\n" for i, v in enumerate(values.tolist())))
    opened = open_data(Csv(train=path, label="y", validation=0.25), Numbers(), seed=4)
    x = torch.cat([b.x for b in opened.train.sequential(batch_size=1000)])[:, 0].double().numpy()
    column = opened.schema.features[0]
    assert column.mean == pytest.approx(x.mean(), rel=1e-12)
    assert column.std == pytest.approx(x.std(), rel=1e-9)
    assert (column.min, column.max) == (x.min(), x.max())
    y = torch.cat([b.y for b in opened.train.sequential(batch_size=1000)])
    assert opened.schema.label.counts == tuple(torch.bincount(y).tolist())
    again = open_data(Csv(train=path, label="y", validation=0.25), Numbers(), seed=4)
    assert again.schema == opened.schema  # also from the cache
    assert open_data(Csv(train=path, label="y", validation=0.25), Numbers(), seed=5).schema != opened.schema


def test_words_become_class_numbers_in_sorted_order(write):
    path = write("rows.csv", "a,y\n1,pear\n2,apple\n3,pear\n4,fig\n")
    opened = open_data(Csv(train=path, label="y", validation=None), Numbers(), seed=1)
    assert opened.schema.label.classes == ("apple", "fig", "pear")
    assert opened.schema.label.counts == (1, 1, 2)
    (batch,) = opened.train.sequential(batch_size=10)
    assert batch.y.tolist() == [2, 0, 2, 1]
    assert opened.validation is None


def test_a_label_learned_as_a_number_keeps_its_values(write):
    class Regression(Numbers):
        def target(self, schema):
            return "number"

    path = write("rows.csv", "a,y\n1,7\n2,9\n")
    opened = open_data(Csv(train=path, label="y", validation=None), Regression(), seed=1)
    (batch,) = opened.train.sequential(batch_size=10)
    assert batch.y.dtype == torch.float32
    assert batch.y.tolist() == [7, 9]
    assert opened.schema.label.mean == 8
    words = write("words.csv", "a,y\n1,x\n2,z\n")
    assert "holds words such as 'x'" in refused(Csv(train=words, label="y", validation=None), Regression())


def test_a_validation_file_shares_categories_and_classes(write):
    train = write("train.csv", "c,y\nred,no\nblue,yes\n")
    held = write("held.csv", "y,c\nyes,green\nno,blue\n")
    opened = open_data(Csv(train=train, validation=held, label="y"), Everything(), seed=1)
    (batch,) = opened.validation.sequential(batch_size=10)
    assert batch.y.tolist() == [1, 0]
    assert torch.isnan(batch.x[0, 0])
    assert batch.x[1, 0] == 1


def test_a_validation_label_that_training_lacks_names_the_near_one(write):
    train = write("train.csv", "a,y\n1,<=50K\n2,>50K\n")
    held = write("held.csv", "a,y\n1,<=50K.\n")
    message = refused(Csv(train=train, validation=held, label="y"))
    assert f"{held}, row 2, column 'y': '<=50K.' is no class of the training data; did you mean '<=50K'" in message
    numbers = Csv(train=write("n.csv", "a,y\n1,0\n2,1\n"), validation=write("v.csv", "a,y\n1,1\n1,2\n"), label="y")
    assert "v.csv, row 3, column 'y': 2 is no class of the training data; there is 0, 1" in refused(numbers)


def test_a_validation_file_without_a_column_is_refused(write):
    train, held = write("train.csv", "alpha,y\n1,0\n2,1\n"), write("held.csv", "alpho,y\n1,0\n")
    message = refused(Csv(train=train, validation=held, label="y"))
    assert f"{held} has no column 'alpha', which the training data has: did you mean 'alpho'" in message


def test_kinds_that_the_algorithm_does_not_take_name_the_column(write):
    path = write("rows.csv", "a,colour,y\n1,red,0\n2,blue,1\n")
    assert "column 'colour' is categorical (red, blue, …), which Numbers does not take" in refused(
        Csv(train=path, label="y")
    )
    open_data(Csv(train=path, label="y", columns=["a"], validation=None), Numbers(), seed=1)
    svm = write("rows.svm", "1 1:2\n0 2:1\n")
    assert "data=libsvm is sparse, which Numbers does not take" in refused(Libsvm(train=svm))
    assert "data=text is text, which Numbers does not take" in refused(Text(train=write("t.txt", "hello")))
    assert "holds no text, and Bytes takes text" in refused(Digits(), Bytes())


def test_missing_cells_are_refused_kept_or_replaced(write):
    path = write("rows.csv", "a,b,y\n1,1,0\n2,,1\n6,3,1\n")
    assert (
        f"{path}, row 3, column 'b': the cell is missing, which Numbers does not take; set data.missing=mean"
        in refused(Csv(train=path, label="y"))
    )
    assert "row 3, column 'b'" in refused(Csv(train=path, label="y", missing="error"), Everything())
    kept = open_data(Csv(train=path, label="y", validation=None), Everything(), seed=1)
    (batch,) = kept.train.sequential(batch_size=9)
    assert torch.isnan(batch.x[1, 1])
    assert kept.schema.features[1].missing == 1
    filled = open_data(Csv(train=path, label="y", validation=None, missing="mean"), Numbers(), seed=1)
    (batch,) = filled.train.sequential(batch_size=9)
    assert batch.x[1, 1] == 2
    assert filled.schema.impute


def test_the_error_for_a_missing_cell_is_the_same_from_the_cache(write):
    source = Csv(train=write("rows.csv", "a,y\n1,0\n,1\n"), label="y")
    assert refused(source) == refused(source)


def test_one_class_alone_is_refused(write):
    path = write("rows.csv", "a,y\n1,yes\n2,yes\n3,yes\n")
    assert "every training row has the label 'yes'" in refused(Csv(train=path, label="y"))


def test_fractions_are_no_classes(write):
    class Classifier(Numbers):
        def target(self, schema):
            return "class" if schema.label else None

    path = write("rows.csv", "a,y\n1,0.5\n2,1.5\n")
    assert "holds numbers that are no classes" in refused(Csv(train=path, label="y"), Classifier())


def test_a_label_that_is_not_set_is_asked_for(write):
    path = write("rows.csv", "a,y\n1,0\n2,1\n")
    assert "Numbers learns from a label: set data.label to its column; there is a, y" in refused(Csv(train=path))


def test_an_algorithm_that_learns_without_a_label_gets_none(write):
    class Clusters(Numbers):
        def target(self, schema):
            return None

    opened = open_data(Csv(train=write("rows.csv", "a,b\n1,0\n2,1\n"), validation=None), Clusters(), seed=1)
    (batch,) = opened.train.sequential(batch_size=9)
    assert batch.y is None
    assert opened.schema.label is None


def test_one_row_is_too_few(write):
    assert "has 1 row: it takes at least 2" in refused(Csv(train=write("rows.csv", "a,y\n1,0\n"), label="y"))


def test_an_array_file_has_its_label_last(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1, 2, 0], [3, 4, 1]], np.int16))
    opened = open_data(Npy(train=str(tmp_path / "rows.npy"), validation=None), Numbers(), seed=1)
    (batch,) = opened.train.sequential(batch_size=9)
    assert batch.x.tolist() == [[1, 2], [3, 4]]
    assert batch.y.tolist() == [0, 1]
    assert [c.name for c in opened.schema.features] == ["0", "1"]


def test_the_lead_parses_and_the_others_wait_for_it(write):
    source = Csv(train=write("rows.csv", "a,y\n1,0\n2,1\n3,0\n"), label="y")
    happened = []

    def wait():
        happened.append("lead done")

    def lead_first():
        open_data(source, Numbers(), seed=1, lead=True, wait=wait)

    opened = open_data(source, Numbers(), seed=1, lead=False, wait=lead_first)
    assert happened == ["lead done"]
    assert opened.train.rows == 2


def test_the_schema_survives_json(write):
    path = write("rows.csv", "a,c,y\n1,x,yes\n2,z,no\n")
    schema = open_data(Csv(train=path, label="y", validation=None), Everything(), seed=1).schema
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


@real
def test_the_census_has_its_columns_and_classes():
    source = Csv(train=str(DATA / "adult_train.csv"), header=False, label=14)
    source.check()
    schema = open_data(source, Everything(), seed=1).schema
    assert schema.label.classes == ("<=50K", ">50K")
    assert [c.kind for c in schema.features].count("categorical") == 8
    assert schema.features[1].categories[0] == "State-gov"
    assert schema.rows + 3259 == 32561


@real
def test_a_missing_cell_of_the_houses_is_found():
    source = Csv(train=str(DATA / "california_housing.csv"), label="median_house_value")
    assert "row 292, column 'total_bedrooms': the cell is missing" in refused(source, NoMissing())
    opened = open_data(source, Everything(), seed=1)
    assert opened.schema.features[4].missing > 0
    assert opened.schema.label.classes == ()
