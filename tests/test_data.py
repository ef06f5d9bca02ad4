"""Data sets: the embedded ones, every reader, and the batches taken from them."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data import Dataset, Split, load
from nnjit.data.csv_file import CSV
from nnjit.data.idx import IDX
from nnjit.data.image_folder import Images
from nnjit.data.npz import NPZ
from nnjit.data.split import hashed
from nnjit.errors import DataError, SpecError
from PIL import Image

IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def write_idx(path, numbers, dtype="u1"):
    """Write an IDX file by the definition of the format, independently of the reader."""
    numbers = np.asarray(numbers)
    header = struct.pack(f">BBBB{numbers.ndim}I", 0, 0, IDX_CODES[dtype], numbers.ndim, *numbers.shape)
    body = header + numbers.astype(dtype).tobytes()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def everything(split, dtype="float64"):
    return split.take(slice(None), dtype)


# Embedded sets


def test_digits_are_the_known_1797():
    digits = load("digits")
    train, validation = digits.train, digits.validation
    assert (len(train), len(validation), digits.classes, digits.input_shape) == (1437, 360, 10, (1, 8, 8))
    labels = np.concatenate([train.y, validation.y])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    pixels = np.concatenate([train.x, validation.x])
    assert pixels.dtype == np.uint8 and pixels.max() == 16 and pixels.sum(dtype=int) == 561718
    assert digits.class_names == tuple("0123456789")


def test_digits_are_raw_stratified_and_hold_no_image_twice_in_both_parts():
    digits = load("digits")
    x, y = everything(digits.train, "float32")
    assert x.dtype == np.float32 and y.dtype == np.int64 and digits.raw_range == (x.min(), x.max()) == (0, 16)
    np.testing.assert_array_equal(x, digits.train.x)
    share = np.bincount(digits.validation.y) / np.bincount(np.concatenate([digits.train.y, digits.validation.y]))
    assert abs(share - 360 / 1797).max() < 0.005
    assert not {image.tobytes() for image in digits.train.x} & {image.tobytes() for image in digits.validation.x}


def test_digits_first_image_of_scikit_learn_is_there():
    # scikit-learn prints this zero in its tutorial: load_digits().images[0]
    zero = """0 0 5 13 9 1 0 0  0 0 13 15 10 15 5 0  0 3 15 2 0 11 8 0  0 4 12 0 0 8 8 0
              0 5 8 0 0 9 8 0  0 4 11 0 1 12 7 0  0 2 14 5 10 12 0 0  0 0 6 13 10 0 0 0"""
    digits = load("digits")
    images = {
        image.tobytes(): y
        for split in (digits.train, digits.validation)
        for image, y in zip(split.x, split.y, strict=True)
    }
    assert images[np.array(zero.split(), np.uint8).tobytes()] == 0


def test_ten_points():
    points = load("ten_points")
    x, y = everything(points.train)
    assert x.tolist()[0] == [0.1, 0.1] and x.tolist()[9] == [0.7, 0.6]
    assert x.sum(axis=0).tolist() == pytest.approx([4.6, 4.2])
    assert y.tolist() == [[1, 0]] * 5 + [[0, 1]] * 5 and y.dtype == np.float64
    assert points.validation is None and points.classes is None and points.input_shape == (2,)


def test_every_embedded_name_is_in_the_registry():
    assert set(registry.datasets.names()) >= {"digits", "ten_points", "idx", "npz", "csv", "images"}


# Splits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["u1", "?", ">i2", "i8", ">f4", "f4", "f8"])
@pytest.mark.parametrize("rows", [slice(1, 4), slice(None), np.array([4, 0, 0]), np.array([True, False] * 3)])
def test_take_converts_and_copies(dtype, stored, rows):
    original = (np.arange(6 * 2 * 3).reshape(6, 2, 3) % 7).astype(stored)
    targets = np.arange(6.0)[:, None]
    split = Split(original.copy(), targets.copy())
    x, y = split.take(rows, dtype)
    for batch in (x, y):
        assert type(batch) is np.ndarray and batch.flags.c_contiguous and batch.flags.writeable
        assert batch.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(x, original.astype(dtype)[rows])
    np.testing.assert_array_equal(y, targets[rows])
    x[:], y[:] = -1, -1
    np.testing.assert_array_equal(split.x, original)
    np.testing.assert_array_equal(split.y, targets)


def test_take_from_fortran_order_and_from_a_part():
    x = np.asfortranarray(np.arange(60.0).reshape(10, 2, 3))
    split = Split(x, np.arange(10))
    part = split.part(np.array([7, 1, 3])).part(np.array([2, 0]))
    taken, labels = part.take(np.array([1, 0, 1]), "float64")
    assert taken.flags.c_contiguous and labels.tolist() == [7, 3, 7]
    np.testing.assert_array_equal(taken, x[[7, 3, 7]])
    np.testing.assert_array_equal(part.x, x[[3, 7]])
    assert len(part) == 2 and part.input_shape == (2, 3)
    assert split.part(slice(2, 8)).part(np.arange(6) % 2 == 1).take(np.array([2]), "float32")[1].tolist() == [7]
    np.testing.assert_array_equal(everything(part)[0], part.x)


def test_nbytes_is_what_take_returns():
    labels, targets = Split(np.zeros((5, 3, 2), np.uint8), np.arange(5)), Split(np.zeros((5, 4)), np.zeros((5, 2)))
    for split in (labels, targets, labels.part(np.arange(2))):
        for dtype in ("float32", "float64"):
            assert split.nbytes(dtype) == sum(array.nbytes for array in everything(split, dtype))


@given(n=st.integers(2, 400), share=st.floats(0.001, 0.999))
def test_hold_out_divides_into_two_parts_of_the_asked_sizes(n, share):
    x = np.arange(n)[:, None]
    train, validation = Split(x, x[:, 0]).hold_out(share)
    assert sorted([*train.y, *validation.y]) == list(range(n))
    assert len(train) > 0 and len(validation) > 0 and abs(len(validation) - share * n) < 1.0001
    assert (np.diff(train.y) > 0).all() and (np.diff(validation.y) > 0).all()


def test_hold_out_takes_the_rows_of_the_smallest_hashes():
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B]
    assert hashed(np.arange(5)).tolist() == published  # SplitMix64 from seed 0, as in the authors' Java
    _, validation = Split(np.arange(5)[:, None], np.arange(5)).hold_out(0.4)
    assert validation.y.tolist() == [2, 4]


@pytest.mark.parametrize("classes", range(2, 31))
def test_hold_out_loses_no_class_of_a_sorted_or_a_cyclic_file(classes):
    for y in (np.arange(6000) % classes, np.sort(np.arange(6000) % classes)):
        _, validation = Split(y[:, None], y).hold_out(0.1)
        counts, mean = np.bincount(validation.y, minlength=classes), 600 / classes
        assert abs(counts - mean).max() < 3.5 * mean**0.5  # as even as a fair draw


def test_hold_out_of_nothing_keeps_all():
    split = Split(np.zeros((1, 1)), np.zeros(1, int))
    assert split.hold_out(0) == (split, None)


@pytest.mark.parametrize("share", [1, 1.5, -0.1, float("nan")])
def test_hold_out_refuses_what_is_no_share(share):
    with pytest.raises(SpecError, match="validation: expected the share"):
        Split(np.zeros((4, 1)), np.zeros(4, int)).hold_out(share)


def test_classes_are_counted_over_both_parts():
    part = [Split(np.zeros((len(y), 1)), np.array(y)) for y in ([0, 1], [4, 0])]
    assert Dataset("set", *part).classes == 5
    assert Dataset("set", part[0], class_names=("a", "b", "c")).classes == 3


# IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", IDX_CODES)
def test_idx_reads_every_element_type(tmp_path, suffix, dtype):
    numbers = np.arange(4 * 2 * 3).reshape(4, 2, 3) - (0 if dtype == "u1" else 5)
    path = write_idx(tmp_path / f"train-images-idx3{suffix}", numbers, dtype)
    write_idx(tmp_path / f"train-labels-idx1{suffix}", [0, 2, 1, 2])
    dataset = IDX(str(path), validation=0).load()
    x, y = everything(dataset.train)
    np.testing.assert_array_equal(x, numbers[:, None])
    assert dataset.raw_range == ((0, 255) if dtype == "u1" else None)
    assert y.tolist() == [0, 2, 1, 2] and dataset.classes == 3 and dataset.validation is None


@pytest.mark.parametrize(
    "names",
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ("train-10k-images-idx3-ubyte.gz", "train-10k-labels-idx1-ubyte.gz", "t10k-images.gz", "t10k-labels.gz"),
        (
            "train-images.idx3-ubyte",
            "train-labels.idx1-ubyte.gz",
            "test-images.idx3-ubyte.gz",
            "test-labels.idx1-ubyte",
        ),
        (
            "emnist-mnist-train-images-idx3",
            "emnist-mnist-train-labels-idx1",
            "e-test-images-idx3",
            "e-test-labels-idx1",
        ),
    ],
)
def test_idx_folder_by_the_usual_names(tmp_path, names):
    for path, numbers in zip(names, ([[[1, 2]], [[3, 4]]], [1, 0], [[[5, 6]]], [1]), strict=True):
        write_idx(tmp_path / path, numbers)
    dataset = load(("idx", {"path": str(tmp_path)}))
    assert dataset.train.x.tolist() == [[[[1, 2]]], [[[3, 4]]]] and dataset.train.y.tolist() == [1, 0]
    assert dataset.validation.x.tolist() == [[[[5, 6]]]] and dataset.input_shape == (1, 1, 2)


def test_idx_plain_files_stay_on_disk_and_win_over_gz(tmp_path):
    numbers = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2)
    write_idx(tmp_path / "train-images", numbers)
    write_idx(tmp_path / "train-images.gz", numbers * 0)
    write_idx(tmp_path / "train-labels", np.arange(20) % 2)
    dataset = load(IDX(str(tmp_path), validation=0.25))
    assert isinstance(dataset.train._stored, np.memmap) and isinstance(dataset.validation._stored, np.memmap)
    assert (len(dataset.train), len(dataset.validation)) == (15, 5)
    x, y = dataset.validation.take(np.array([0, 1]), "float32")
    assert type(x) is np.ndarray
    np.testing.assert_array_equal(x, dataset.validation.x[:2])
    assert x.any() and y.shape == (2,) and dataset.raw_range == (0, 255)


def test_idx_training_images_are_not_taken_for_test_images(tmp_path):
    write_idx(tmp_path / "latest-train-images", np.zeros((10, 2, 2)))
    write_idx(tmp_path / "latest-train-labels", np.zeros(10))
    dataset = load(IDX(str(tmp_path)))
    assert (len(dataset.train), len(dataset.validation)) == (9, 1)


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4, 5), (3, 2, 3, 4, 2)])
def test_idx_of_other_ranks_is_kept(tmp_path, shape):
    write_idx(tmp_path / "images", np.ones(shape))
    write_idx(tmp_path / "labels", [0, 1, 0])
    assert IDX(str(tmp_path / "images"), validation=0).load().input_shape == shape[1:]


# NPZ


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_own_names(tmp_path, compressed):
    x, y = np.random.default_rng(0).normal(size=(30, 2, 3)), np.arange(30) % 3
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=x, y=y, x_val=x[:4], y_val=y[:4])
    dataset = NPZ(str(tmp_path / "a.npz")).load()
    np.testing.assert_array_equal(everything(dataset.train)[0], x)
    assert (
        dataset.raw_range is None
        and dataset.classes == 3
        and len(dataset.validation) == 4
        and dataset.validation.y.tolist() == [0, 1, 2, 0]
    )


def test_npz_with_the_names_of_keras(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=pictures, y_train=np.arange(6), x_test=pictures[:2], y_test=np.arange(2))
    dataset = load(f"npz(path={str(tmp_path / 'mnist.npz')!r})")
    assert dataset.input_shape == (1, 4, 5) and dataset.train.x.dtype == np.uint8 and len(dataset.validation) == 2
    np.testing.assert_array_equal(everything(dataset.train)[0][:, 0], pictures)
    assert dataset.raw_range == (0, 255)


def test_npz_holds_out_a_share_and_reads_targets_and_label_columns(tmp_path):
    x = np.arange(20.0)
    np.savez(tmp_path / "values.npz", x=x, y=np.sin(x))
    dataset = load(NPZ(str(tmp_path / "values.npz"), 0.2))
    assert (len(dataset.train), len(dataset.validation), dataset.classes) == (16, 4, None)
    taken, y = everything(dataset.validation)
    np.testing.assert_array_equal(y, np.sin(taken))
    assert y.shape == (4, 1)
    np.savez(tmp_path / "column.npz", x=x, y=np.arange(20)[:, None] % 2)
    assert NPZ(str(tmp_path / "column.npz")).load().classes == 2
    np.savez(tmp_path / "one_hot.npz", x=x, y=np.eye(20, dtype=int))
    one_hot = NPZ(str(tmp_path / "one_hot.npz"), 0).load().train
    assert everything(one_hot, "float32")[1].dtype == np.float32 and one_hot.y.shape == (20, 20)


# CSV


@pytest.mark.parametrize("reader", ["npz", "idx"])
@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((28, 28, 1), True), ((32, 32, 3), True), ((9, 6, 4), True), ((9, 8, 7, 1), True), ((1, 28, 28), False),
        ((3, 8, 3), False), ((16, 4, 4), False), ((2, 9, 3), False), ((9, 9, 2), False), ((9, 1), False),
    ],
)  # fmt: skip
def test_channels_in_the_last_place_are_refused(tmp_path, reader, shape, last):
    x = np.zeros((2, *shape), np.uint8)
    np.savez(tmp_path / "images.npz", x=x, y=[0, 1])
    write_idx(tmp_path / "images", x)
    write_idx(tmp_path / "labels", [0, 1])
    made = NPZ(str(tmp_path / "images.npz"), 0) if reader == "npz" else IDX(str(tmp_path / "images"), 0)
    if not last:
        assert made.load().input_shape[-len(shape) :] == shape
        return
    with pytest.raises(
        DataError, match=r"have their channels last, but .channels, height, width. is expected; use"
    ) as said:
        made.load()
    order = eval(str(said.value).rpartition("transpose")[2])
    assert x.transpose(order).shape == (2, shape[-1], *shape[:-1])
    np.savez(tmp_path / "images.npz", x=x.transpose(order), y=[0, 1])
    NPZ(str(tmp_path / "images.npz"), 0).load()


def csv_of(tmp_path, text, *options, **named):
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    return CSV(str(tmp_path / "table.csv"), *options, **named).load()


@pytest.mark.parametrize("label", ["kind", 1, -2])
def test_csv_of_whole_numbers(tmp_path, label):
    dataset = csv_of(tmp_path, "a,kind,b\n1,0,2.5\n\n-3,2,4e2\n 5 , 1.0 ,6\n", label, validation=0)
    x, y = everything(dataset.train)
    assert x.tolist() == [[1, 2.5], [-3, 400], [5, 6]] and y.tolist() == [0, 2, 1]
    assert dataset.classes == 3 and dataset.class_names is None


def test_csv_of_words_quotes_and_a_byte_order_mark(tmp_path):
    dataset = csv_of(tmp_path, '\ufeff"kind of, flower",x\n"setosa",1\n"ro,sa",2\nsetosa,3\n', 0, validation=0)
    assert dataset.class_names == ("ro,sa", "setosa") and dataset.train.y.tolist() == [1, 0, 1]
    assert csv_of(tmp_path, "\ufeffkind,x\nä,1\n", "kind", validation=0).class_names == ("ä",)


@pytest.mark.parametrize(
    ("labels", "names", "y"),
    [
        (["1_0", "1_1", "2_0"], ("1_0", "1_1", "2_0"), [0, 1, 2]),
        (["0x1", "0x2", "0x1"], ("0x1", "0x2"), [0, 1, 0]),
        (["\u0661", "\u0662", "\u0661"], ("\u0661", "\u0662"), [0, 1, 0]),
        (["none", "Na", "na"], ("Na", "na", "none"), [2, 0, 1]),
        (["02", "00", "02"], None, [2, 0, 2]),
        (["2.0", "1e0", ".0"], None, [2, 1, 0]),
    ],
)
def test_csv_labels_are_words_or_decimal_numbers(tmp_path, labels, names, y):
    dataset = csv_of(tmp_path, "x,label\n" + "".join(f"1,{label}\n" for label in labels), "label", validation=0)
    assert dataset.class_names == names and dataset.train.y.tolist() == y and dataset.columns == ("x",)


@given(cell=st.one_of(st.text("0123456789.eE+-_ \t\xa0\u0661nanifx", max_size=6), st.floats().map(repr)))
def test_csv_numbers_are_what_float_reads_of_plain_digits(tmp_path_factory, cell):
    path = tmp_path_factory.getbasetemp() / "cell.csv"
    path.write_text(f'x,label\n"{cell}",0\n', encoding="utf-8")
    try:
        number = float(cell) if not set(cell) - set("0123456789.eE+- \t") else float("nan")
    except ValueError:
        number = float("nan")
    try:
        dataset = CSV(str(path), "label", validation=0, kinds={"x": "number"}).load()
        assert dataset.train.x.tolist() == [[number]]
        assert np.isfinite(number)
    except DataError as error:
        assert not np.isfinite(number), error


def test_csv_of_values_and_the_held_out_share(tmp_path):
    text = "x,y\n" + "".join(f"{i},{i * i / 2}\n" for i in range(20))
    dataset = load(csv_of(tmp_path, text, "y", "value", validation=0.25))
    assert (len(dataset.train), len(dataset.validation), dataset.classes) == (15, 5, None)
    for split in (dataset.train, dataset.validation):
        x, y = everything(split)
        assert y.shape == (len(split), 1)
        np.testing.assert_array_equal(y, x**2 / 2)


def test_csv_with_a_row_whose_sum_overflows(tmp_path):
    dataset = csv_of(tmp_path, "a,b,c\n1e308,1e308,1\n2,3,0\n", -1, validation=0)
    assert everything(dataset.train)[0].tolist() == [[1e308, 1e308], [2, 3]]


# Folders of images


def write_images(folder, images):
    for name, pixels in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / name)


def test_images_by_class(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {f"{name}/{i}.png": rng.integers(0, 256, (3, 5, 3)) for name in ("dog", "cat") for i in range(2)}
    write_images(tmp_path, pixels)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    dataset = load(("images", {"path": str(tmp_path), "validation": 0}))
    assert dataset.class_names == ("cat", "dog") and dataset.train.y.tolist() == [0, 0, 1, 1]
    assert dataset.input_shape == (3, 3, 5) and dataset.train.x.dtype == np.uint8
    x, _ = everything(dataset.train)
    expected = np.array([pixels[name] for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")])
    np.testing.assert_array_equal(x, expected.transpose(0, 3, 1, 2))
    assert dataset.raw_range == (0, 255)


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev", "test", "Testing", "eval", "evaluation"])
@pytest.mark.parametrize("training", ["train", "Training"])
def test_images_in_parts_gray_and_resized(tmp_path, training, validation):
    flat = np.full((4, 6), 100)
    write_images(tmp_path, {f"{training}/a/1.png": flat, f"{training}/b/1.bmp": flat[:2]})
    write_images(tmp_path, {f"{validation}/a/1.png": flat})
    write_images(tmp_path, {f"{validation}/b/2.png": flat})
    dataset = Images(str(tmp_path), size=(2, 3), gray=True).load()
    assert dataset.input_shape == (1, 2, 3) and len(dataset.train) == 2 and len(dataset.validation) == 2
    assert (dataset.train.x == 100).all()


def test_images_of_several_modes_become_colours_or_gray(tmp_path):
    colours = np.zeros((2, 2, 4), np.uint8)
    colours[..., 0], colours[..., 3] = 200, 10  # a nearly transparent red: transparency is dropped
    write_images(tmp_path, {"a/1.png": colours, "a/2.png": np.full((2, 2), 50)})
    Image.fromarray(colours[..., :3]).convert("P").save(tmp_path / "a" / "3.png")
    x = Images(str(tmp_path), validation=0).load().train.x
    assert x[:2, :, 0, 0].tolist() == [[200, 0, 0], [50, 50, 50]]
    assert abs(x[2, :, 0, 0].astype(int) - [200, 0, 0]).max() < 26  # half a step of pillow's palette of 6 x 6 x 6
    gray = Images(str(tmp_path), gray=True, validation=0).load().train.x
    assert gray.shape == (3, 1, 2, 2) and gray[1].tolist() == [[[50, 50], [50, 50]]]
    assert gray[0, 0, 0, 0] == round(0.299 * 200)  # ITU-R 601-2 luma


def test_images_have_a_test_set(tmp_path):
    rng = np.random.default_rng(0)
    parts = {part: rng.integers(0, 256, (4, 2, 2)) for part in ("train", "val", "test", "other")}
    for part, pixels in parts.items():
        folder = tmp_path / ("elsewhere" if part == "other" else "all") / part
        write_images(folder, {f"{'ab'[i % 2]}/{i}.png": image for i, image in enumerate(pixels)})
    all_, other = str(tmp_path / "all"), str(tmp_path / "elsewhere" / "other")

    def found(**options):
        dataset = load(("images", {"path": all_, "gray": True, **options}))
        splits = dataset.train, dataset.validation, dataset.test
        return [None if each is None else sorted(each.x.reshape(len(each), -1).sum(axis=1)) for each in splits], dataset

    sums = {part: sorted(pixels.sum(axis=(1, 2))) for part, pixels in parts.items()}
    assert found()[0] == [sums["train"], sums["val"], sums["test"]]
    splits, dataset = found(test=other)
    assert splits == [sums["train"], sums["val"], sums["other"]]
    assert f"test: 4 rows of {other}" in dataset.division
    splits, dataset = found(test=str(tmp_path / "all" / "test"))
    assert splits == [sums["train"], sums["val"], sums["test"]]
    with pytest.raises(DataError, match="there is a test set already, and a share of 0"):
        found(test=0.25)
    with pytest.raises(DataError, match="holds the training images"):
        found(test=str(tmp_path / "all" / "train"))
    (tmp_path / "all" / "val").rename(tmp_path / "val")
    assert found()[0] == [sums["train"], sums["test"], None]  # as ever: the only other folder validates
    splits, dataset = found(test=str(tmp_path / "all" / "test"), validation=0.5)
    assert splits[2] == sums["test"] and sorted(splits[0] + splits[1]) == sums["train"] and len(splits[1]) == 2
    assert found(test=0.5)[1].division[1].startswith("test: 2 of 4 rows")
    write_images(tmp_path / "elsewhere" / "other", {"c/1.png": np.zeros((2, 2))})
    with pytest.raises(DataError, match=r"other holds the class 'c', which .*train does not"):
        found(test=other)


def test_idx_has_a_test_set(tmp_path):
    pictures = np.arange(6 * 4).reshape(6, 2, 2)
    for part, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6)), ("late", slice(3, 5))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", pictures[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(6)[rows] % 2)

    def found(**options):
        dataset = load(("idx", {"path": str(tmp_path), **options}))
        splits = dataset.train, dataset.validation, dataset.test
        return [None if each is None else [int(x) // 4 for x in each.x[:, 0, 0, 0]] for each in splits], dataset

    assert found()[0] == [[0, 1, 2, 3], [4, 5], None]
    late = str(tmp_path / "late-images-idx3-ubyte")
    splits, dataset = found(test=late)
    assert splits == [[0, 1, 2, 3], [4, 5], [3, 4]] and f"test: 2 rows of {late}" in dataset.division
    splits, dataset = found(test=str(tmp_path / "t10k-images-idx3-ubyte"), validation=0.5)
    assert splits[2] == [4, 5] and sorted(splits[0] + splits[1]) == [0, 1, 2, 3] and len(splits[1]) == 2
    assert found(test=str(tmp_path), validation=0.5)[0] == splits  # the folder's own test files
    splits, dataset = found(test=0.5)
    assert splits[1] == [4, 5] and sorted(splits[0] + splits[2]) == [0, 1, 2, 3] and len(splits[2]) == 2
    with pytest.raises(DataError, match="holds the training images"):
        found(test=str(tmp_path / "train-images-idx3-ubyte"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        found(test=str(tmp_path / "empty"))


@pytest.mark.parametrize("reader", ["idx", "images"])
@pytest.mark.parametrize("test", ["", "0.2", 1, -0.5, float("nan")])
def test_a_test_set_is_a_share_or_a_path(reader, test):
    with pytest.raises(SpecError, match="test: expected"):
        registry.datasets.create((reader, {"path": "x", "test": test}))


def test_a_folder_of_vehicles_may_have_a_class_called_train(tmp_path):
    write_images(tmp_path, {"train/1.png": np.zeros((2, 2)), "bus/1.png": np.zeros((2, 2))})
    assert Images(str(tmp_path), validation=0).load().class_names == ("bus", "train")


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_says(tmp_path, orientation, gray):
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:4, :4] = 255  # the top left corner
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.jpg", exif=exif, quality=100)
    # CIPA DC-008: where the 0th row and the 0th column of the stored picture are
    row, column = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left", 5: "left top", 6: "right top",
                   7: "right bottom", 8: "left bottom"}[orientation].split()  # fmt: skip
    shown = pixels if row in ("top", "bottom") else pixels.T
    if "bottom" in (row, column):
        shown = shown[::-1]
    if "right" in (row, column):
        shown = shown[:, ::-1]
    x = Images(str(tmp_path), gray=gray, validation=0).load().train.x
    assert x.shape == (1, 1 if gray else 3, *shown.shape)
    assert abs(x[0, 0].astype(int) - shown).max() < 16


def test_images_without_what_macos_and_windows_add(tmp_path):
    write_images(tmp_path, {"a/1.png": np.zeros((2, 2)), "b/1.PNG": np.ones((2, 2))})
    for name in ("a/._1.png", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/._1.png", "__MACOSX/._a", ".git/1.png",
                 "._x.png", "b/.thumbs/1.png", "desktop.ini"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7 no image")
    dataset = Images(str(tmp_path), validation=0).load()
    assert dataset.class_names == ("a", "b") and dataset.train.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("stray", "match"),
    [
        ("a/more/2.png", r"2.png lies in a folder below the class 'a'; a class's images lie directly"),
        ("a/more/and/more/2.png", "lies in a folder below the class 'a'"),
        ("2.png", "2.png lies outside of the folders of the classes"),
        ("train/x/1.png", "1.png lies in neither the training nor the validation folder"),
    ],
)
def test_no_image_is_passed_over(tmp_path, stray, match):
    write_images(tmp_path, {"a/1.png": np.zeros((2, 2)), "b/1.png": np.ones((2, 2)), stray: np.zeros((2, 2))})
    (tmp_path / "b" / "notes").mkdir()
    with pytest.raises(DataError, match=match):
        Images(str(tmp_path), validation=0).load()


def test_images_of_two_training_folders_and_of_part_of_the_classes(tmp_path):
    write_images(tmp_path, {f"train/{c}/1.png": np.zeros((2, 2)) for c in "abc"} | {"val/c/1.png": np.zeros((2, 2))})
    dataset = Images(str(tmp_path)).load()
    assert dataset.class_names == ("a", "b", "c") and dataset.validation.y.tolist() == [2]
    write_images(tmp_path, {"Training/a/1.png": np.zeros((2, 2))})
    with pytest.raises(DataError, match=r"train and .*Training are both there, but one of them was expected"):
        Images(str(tmp_path)).load()
