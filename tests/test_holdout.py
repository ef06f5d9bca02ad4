"""Rows held out for validation, for a test and as folds, against plain Python."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnjit import data
from nnjit.data.holdout import folds, hashed, held_out
from nnjit.data.split import Dataset, Split
from nnjit.errors import DataError, SpecError

labels = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(np.array)
shares = st.integers(1, 999).map(lambda k: k / 1000)
seeds = st.integers(0, 2**31 - 1)
renumbered = np.array([3, 0, 5, 1, 4, 2])  # the six classes under other numbers
MASK = 2**64 - 1


def splitmix(seed, rows):
    """SplitMix64 in Python's whole numbers, from the hash of the seed."""

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)

    return [mix(mix(seed) + (row + 1) * 0x9E3779B97F4A7C15 & MASK) for row in range(rows)]


@given(seed=seeds)
def test_hashes_are_those_of_whole_numbers_of_any_size(seed):
    assert hashed(np.arange(20), seed).tolist() == splitmix(seed, 20)


@given(y=labels, share=shares, seed=seeds)
def test_each_class_is_held_out_within_one_sample_of_the_share(y, share, seed):
    held = held_out(y, share, seed)
    counts, taken = np.bincount(y, minlength=6), np.bincount(y[held], minlength=6)
    assert (np.diff(held) > 0).all() and 0 < len(held) < len(y)
    if counts.max() == 1:  # nothing to stratify
        return
    several = [int(n) for n in counts if n > 1]
    total = max(1, round(Fraction(str(share)) * sum(several)))
    assert len(held) == min(total, sum(min(ceil(Fraction(str(share)) * n), n - 1) for n in several))
    for n, k in zip(counts.tolist(), taken.tolist(), strict=True):
        assert k == 0 if n < 2 else abs(k - Fraction(str(share)) * n) < 1 and k < n


@given(y=labels, share=shares, seed=seeds)
def test_the_smallest_hashes_of_a_class_are_held_out(y, share, seed):
    held, hashes = set(held_out(y, share, seed).tolist()), splitmix(seed, len(y))
    groups = [np.flatnonzero(y == k).tolist() for k in range(6)] if len(set(y.tolist())) < len(y) else [range(len(y))]
    for rows in groups:
        ordered = sorted(rows, key=lambda row: hashes[row])
        count = len(held.intersection(rows))
        assert held.intersection(rows) == set(ordered[:count])


@given(y=labels, share=shares, seed=seeds, count=st.integers(2, 8))
def test_classes_under_other_numbers_are_drawn_alike(y, share, seed, count):
    np.testing.assert_array_equal(held_out(y, share, seed), held_out(renumbered[y], share, seed))
    if count <= len(y):
        for fold, other in zip(folds(y, count, seed), folds(renumbered[y], count, seed), strict=True):
            np.testing.assert_array_equal(fold, other)


@given(y=labels, share=shares, seed=seeds)
def test_a_class_does_not_depend_on_the_order_of_the_other_rows(y, share, seed):
    """The labels of the other rows change places; as many rows of the class are held out, the same ones."""
    if np.bincount(y).max() == 1:
        return
    kept = np.flatnonzero(y == y[0])
    rest = np.flatnonzero(y != y[0])
    other = y.copy()
    other[rest] = y[rest[::-1]]
    mine, theirs = (np.intersect1d(held_out(each, share, seed), kept) for each in (y, other))
    both = min(len(mine), len(theirs))
    hashes = splitmix(seed, len(y))
    first, second = (sorted(rows.tolist(), key=lambda row: hashes[row])[:both] for rows in (mine, theirs))
    assert first == second and abs(len(mine) - len(theirs)) <= 1


@given(y=labels, seed=seeds, count=st.integers(2, 8))
def test_folds_are_complete_disjoint_and_even(y, seed, count):
    if count > len(y):
        with pytest.raises(SpecError, match=f"expected 2 to {len(y)} folds"):
            folds(y, count, seed)
        return
    found = folds(y, count, seed)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(y)))
    sizes = [len(fold) for fold in found]
    assert max(sizes) - min(sizes) <= 1
    for k in range(6):
        of_class = [int((y[fold] == k).sum()) for fold in found]
        assert max(of_class) - min(of_class) <= 1


def test_the_draw_is_pinned():
    """These rows are held out on every machine and by every later version."""
    y = np.arange(30) % 3
    assert held_out(y, 0.2, 0).tolist() == PINNED[0] and held_out(y, 0.2, 1).tolist() == PINNED[1]
    assert [fold.tolist() for fold in folds(y[:9], 3, 7)] == PINNED[2]


PINNED = [[2, 4, 6, 8, 10, 18], [7, 14, 16, 24, 27, 29], [[1, 5, 6], [0, 7, 8], [2, 3, 4]]]


@pytest.mark.parametrize("share, n, held", [(0.3, 10, 3), (0.1, 30, 3), (0.07, 100, 7), (0.29, 100, 29), (0.001, 5, 1)])
def test_a_share_is_the_decimal_number(share, n, held):
    """0.3 * 10 is 3.0000000000000004 with some ways of computing; 0.999 of 5 leaves one."""
    y = np.zeros(n, int)
    assert len(held_out(y, share)) == held
    assert len(held_out(y, 1 - share if share == 0.001 else share)) == (4 if share == 0.001 else held)


def test_targets_are_drawn_without_classes():
    y = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_array_equal(held_out(y, 0.3, 4), np.sort(np.argsort(splitmix(4, 50))[:15]))


def test_one_sample_is_not_divided():
    with pytest.raises(DataError, match=r"rows\.csv holds one sample"):
        held_out(np.zeros(1, int), 0.5, name="rows.csv")


# -- data sets ---------------------------------------------------------------------------------------------------------


def table(n=150, **options):
    y = np.arange(n) % 3
    return Dataset("table", Split(np.arange(n, dtype=float)[:, None], y, name="table"), **options)


def rows(split):
    return set(split.x[:, 0].astype(int).tolist())


@pytest.mark.parametrize("seed", [0, 3])
def test_shares_are_held_out_of_all_rows_and_said(seed):
    found = data.load(table(validation_share=0.3, test_share=0.2), seed)
    parts = [rows(split) for split in (found.train, found.validation, found.test)]
    assert [len(part) for part in parts] == [75, 45, 30] and set.union(*parts) == set(range(150))
    for split in (found.train, found.validation, found.test):
        assert len(set(np.bincount(split.y).tolist())) == 1
    assert found.division == (
        f"test: 30 of 150 rows, stratified by class, seed {seed}",
        f"validation: 45 of 150 rows, stratified by class, seed {seed}",
    )
    again = data.load(table(validation_share=0.3, test_share=0.2), seed)
    assert rows(again.validation) == parts[1] and data.load(found, seed + 1).validation is found.validation
    other = data.load(table(validation_share=0.3, test_share=0.2), seed + 1)
    assert rows(other.validation) != parts[1] and rows(other.test) != parts[2]


def test_the_test_set_is_the_same_in_every_fold_and_never_trained_on():
    folds = [data.load(table(validation_share=0.1, test_share=0.2), 5, (k, 4)) for k in range(1, 5)]
    tests = [rows(fold.test) for fold in folds]
    assert all(test == tests[0] for test in tests) and len(tests[0]) == 30
    held = [rows(fold.validation) for fold in folds]
    assert sum(map(len, held)) == 120 and set.union(*held) == set(range(150)) - tests[0]
    for fold in folds:
        assert not rows(fold.train) & (rows(fold.validation) | rows(fold.test))
        assert len(fold.train) + len(fold.validation) == 120
    assert "validation: fold 2 of 4, 30 of 150 rows, stratified by class, seed 5" in folds[1].division


def test_a_fold_of_data_with_a_validation_set_of_its_own_says_that_it_is_left_out():
    digits = data.load("digits", 0, (1, 3))
    assert (len(digits.train), len(digits.validation)) == (958, 479)
    assert digits.division[0] == "left out: 360 rows of digits (val), in place of which a fold validates"
    assert data.load("digits").division == ("validation: 360 rows of digits (val)",)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"validation_share": 0.6, "test_share": 0.4}, "hold out 1 of the samples together"),
        ({"validation_share": 1.0}, "validation_share: expected the share"),
        ({"test_share": -0.5}, "test_share: expected the share"),
        ({"targets": ("a",)}, "1 names for targets"),
    ],
)
def test_shares_that_cannot_be(options, match):
    with pytest.raises((SpecError, DataError), match=match):
        table(**options)


def test_a_share_beside_a_split_that_is_there():
    split = table().train
    with pytest.raises(DataError, match="there is a test set already"):
        Dataset("table", split, test=split, test_share=0.1)
    with pytest.raises(DataError, match=r"training and test differ in input_shape: \(1,\) and \(2,\)"):
        Dataset("table", split, test=Split(np.zeros((3, 2)), np.zeros(3, int)))
    with pytest.raises(SpecError, match="from 1 to 3, got 4"):
        data.load(table(), 0, (4, 3))


def test_a_reader_that_divides_its_data_itself_keeps_its_split(monkeypatch):
    """As plug-ins do, by `Split.hold_out`."""
    train, validation = table().train.hold_out(0.2)
    found = data.load(Dataset("mine", train, validation), 3)
    assert found.train is train and found.validation is validation


def test_a_test_set_in_an_archive(tmp_path):
    x, y = np.arange(60.0)[:, None], np.arange(60) % 2
    parts = {"x": x[:40], "y": y[:40], "x_val": x[40:50], "y_val": y[40:50], "x_test": x[50:], "y_test": y[50:]}
    np.savez(tmp_path / "all.npz", **parts)
    found = data.load(f"npz({str(tmp_path / 'all.npz')!r})")
    assert [len(rows(part)) for part in (found.train, found.validation, found.test)] == [40, 10, 10]
    np.savez(tmp_path / "two.npz", **{name: part for name, part in parts.items() if "_val" not in name})
    found = data.load(f"npz({str(tmp_path / 'two.npz')!r})")  # as in most archives: to validate
    assert rows(found.validation) == set(range(50, 60)) and found.test is None
    np.savez(tmp_path / "one.npz", x=x, y=y)
    found = data.load(f"npz({str(tmp_path / 'one.npz')!r}, validation=0.25, test=0.1)")
    assert [len(rows(part)) for part in (found.train, found.validation, found.test)] == [39, 15, 6]
