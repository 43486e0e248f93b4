import numpy as np
import pytest
import torch

from genscl_lite.datasets.labels import read_table

FILES, NAMES = ["train/cat/1.png", "train/dog/1.png"], ["cat", "dog", "eel"]
GOOD = [
    "path,eel,cat,dog",
    "train/dog/1.png,0,0.2,0.8",
    "",
    "val/cat/1.png,1,0,0",
    "train/cat/1.png,0.25,0.5,0.2505",
]


def read(tmp_path, lines):
    (tmp_path / "soft.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return read_table(tmp_path / "soft.csv").distributions(FILES, NAMES, others=["val/cat/1.png"])


def test_rows_and_columns_come_in_any_order(tmp_path):
    rows = read(tmp_path, GOOD)
    assert rows.dtype == torch.float32
    assert torch.allclose(
        rows, torch.tensor([[0.5, 0.2505, 0.25], [0.2, 0.8, 0]]) / torch.tensor([[1.0005], [1]])
    )


@pytest.mark.parametrize("separator, point, encoding", [
    (",", ".", "utf-8"), (";", ",", "utf-8-sig"), (";", ".", "utf-8"), ("\t", ",", "utf-8"),
])  # fmt: skip
def test_files_of_spreadsheets_are_read(tmp_path, separator, point, encoding):
    """With a mark or without, and with the decimal comma of most of Europe."""
    lines = (
        "\n".join(GOOD).replace(",", separator).replace(".", point).replace(f"{point}png", ".png")
    )
    (tmp_path / "soft.csv").write_text(lines.replace("path", '"path"', 1), encoding=encoding)
    rows = read_table(tmp_path / "soft.csv").distributions(FILES, NAMES, others=["val/cat/1.png"])
    assert torch.equal(rows, read(tmp_path, GOOD))


def test_other_encodings_are_named_with_what_to_do(tmp_path):
    for name, encoding, content in (
        ("header", "cp1252", ["path,caf\xe9", "a,1"]),
        ("row", "cp1252", [*GOOD, "caf\xe9/1.png,1,0,0"]),
        ("unicode", "utf-16", GOOD),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join(content), encoding=encoding)
        with pytest.raises(
            ValueError, match=f'^labels: .*{name}.csv is not UTF-8; save .* as "CSV UTF-8"$'
        ):
            read_table(tmp_path / f"{name}.csv").distributions(FILES, NAMES)


@pytest.mark.parametrize("line, change, message", [
    (0, "path,eel,cat,fox", "expected a column for each class; missing: dog; not among the classes: fox"),
    (0, "path,eel,cat,dog,dog", "columns that are there twice: dog"),
    (0, "file,eel,cat,dog", "one of them path, got file, eel, cat, dog"),
    (1, "train/fox/1.png,0,0,1", "line 2: 'train/fox/1.png' is none of the image files"),
    (1, "train\\dog\\1.png,0,0,1", r"line 2: .* is none of the image files \(write / for"),
    (4, "train/dog/1.png,0,0.2,0.8", "line 5: train/dog/1.png had a row already, line 2"),
    (4, "", "1 of 2 training files have no row: train/cat/1.png"),
    (4, "train/cat/1.png,0.25,0.5,0.2511", "line 5, train/cat/1.png: expected 3 finite .* sum 1, got sum 1.0011, smallest 0.25"),
    (4, "train/cat/1.png,-0.5,0.5,1", "line 5, train/cat/1.png: expected 3 finite .* got sum 1, smallest -0.5"),
    (4, "train/cat/1.png,nan,0.5,0.5", "line 5, train/cat/1.png: expected 3 finite .* got nan for eel"),
    (4, "train/cat/1.png,0.5,0.5", "line 5, train/cat/1.png: expected 3 finite .* got nan for dog"),
    (4, "train/cat/1.png,0.5,half,0", "line 5, train/cat/1.png: expected 3 finite .* got half for cat"),
    (4, "train/cat/1.png,0.5,inf,0", "line 5, train/cat/1.png: expected 3 finite .* got sum inf, smallest 0"),
    (4, "train/cat/1.png,0.25,0.5,0.25,0", "Expected 4 fields in line 5, saw 5"),
    (1, "train/dog/1.png,0,0.2,0.8,0", "Expected 4 fields in line 2, saw 5"),
    (4, ",0.25,0.5,0.25", "line 5: no path"),
    (3, "val/cat/1.png,2,0,0", "line 4, val/cat/1.png: expected 3 finite"),
])  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, line, change, message):
    with pytest.raises(ValueError, match=r"labels: .*soft.csv.*" + message):
        read(tmp_path, [*GOOD[:line], change, *GOOD[line + 1 :]])


def test_no_file_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="labels: .*none.csv is no file"):
        read_table(tmp_path / "none.csv").distributions(FILES, NAMES)
    with pytest.raises(ValueError, match="soft.csv: Could not determine delimiter"):
        read(tmp_path, [])


@pytest.mark.parametrize("classes, decimals", [(2, 1), (10, 2), (100, 3), (1000, 4), (1000, 7)])
@pytest.mark.filterwarnings("ignore:labels. .*taken as distributions rounded")
def test_rounded_distributions_are_divided_by_their_sums(tmp_path, classes, decimals):
    """Whatever rounding to so many decimals does to the sum of so many numbers is let pass."""
    random = np.random.default_rng(0)
    exact = np.exp(2 * random.normal(size=(40, classes)))
    exact /= exact.sum(axis=1, keepdims=True)
    rows = [[f"{x:.{decimals}f}" for x in row] for row in exact]
    files, names = [f"{k}.png" for k in range(40)], [f"c{c}" for c in range(classes)]
    lines = [",".join([file, *row]) for file, row in zip(files, rows, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(["path", *names]), *lines]))
    read = read_table(tmp_path / "a.csv").distributions(files, names)
    written = np.array(rows, dtype=float)
    assert np.allclose(read, written / written.sum(axis=1, keepdims=True), atol=1e-7)
    assert np.allclose(read.sum(dim=1), 1, atol=1e-6)


@pytest.mark.parametrize("row, sum", [
    ("0.25,0.25,0.55,0", "1.05"),  # three numbers of two decimals are off by 0.015 at most
    ("0.25,0.25,0.47,0", "0.97"),  # and four by 0.02
    ("0.5,0.5,0.5,0", "1.5"),
    ("0,0,0,0", "0"),
])  # fmt: skip
def test_what_rounding_cannot_explain_is_refused(tmp_path, row, sum):
    (tmp_path / "a.csv").write_text(f"path,a,b,c,d\n1.png,0.25,0.25,0.25,0.25\n2.png,{row}\n")
    with pytest.raises(ValueError, match=f"line 3, 2.png: expected 4 finite .* got sum {sum}, "):
        read_table(tmp_path / "a.csv").distributions(["1.png"], list("abcd"), others=["2.png"])


def test_counts_of_votes_become_shares_and_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("path,a,b,c\n1.png,3,0,1\n2.png,40,5,5\n3.png,0,1,0\n")
    with pytest.warns(
        UserWarning, match="^labels: .*a.csv: taken as counts of votes, sums 1 to 50; each row is"
    ):
        read = read_table(tmp_path / "a.csv").distributions(
            ["2.png", "1.png", "3.png"], list("abc")
        )
    expected = [[0.8, 0.1, 0.1], [0.75, 0, 0.25], [0, 1, 0]]
    assert torch.allclose(read, torch.tensor(expected))
    (tmp_path / "a.csv").write_text("path,a,b,c\n1.png,3,0,1\n2.png,0,0,0\n")
    with pytest.raises(
        ValueError, match="line 3, 2.png: expected 3 finite counts of at least 0, not"
    ):
        read_table(tmp_path / "a.csv").distributions(["1.png"], list("abc"), others=None)
    (tmp_path / "a.csv").write_text("path,a,b,c\n1.png,3,-1,1\n")
    with pytest.raises(ValueError, match="line 2, 1.png: expected 3 .* got sum 3, smallest -1"):
        read_table(tmp_path / "a.csv").distributions(["1.png"], list("abc"))


def test_a_comma_in_a_count_is_refused(tmp_path):
    """It may part thousands, and would read as 1."""
    (tmp_path / "a.csv").write_text('path,a,b\n1.png,3,1\n2.png,"1,000",250\n')
    with pytest.raises(
        ValueError, match="line 3, 2.png: expected counts without commas, got 1,000$"
    ):
        read_table(tmp_path / "a.csv").distributions(["1.png"], list("ab"), others=None)


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_sums_that_are_one(tmp_path):
    (tmp_path / "a.csv").write_text("path,a,b\n1.png,1,0\n2.png,0,1\n")
    assert torch.equal(
        read_table(tmp_path / "a.csv").distributions(["1.png", "2.png"], ["a", "b"]), torch.eye(2)
    )
