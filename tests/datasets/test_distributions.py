import pytest
import torch

from genscl_lite.datasets.distributions import read_distributions

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
    return read_distributions(tmp_path / "soft.csv", FILES, NAMES, others=["val/cat/1.png"])


def test_rows_and_columns_come_in_any_order(tmp_path):
    rows = read(tmp_path, GOOD)
    assert rows.dtype == torch.float32
    assert torch.allclose(
        rows, torch.tensor([[0.5, 0.2505, 0.25], [0.2, 0.8, 0]]) / torch.tensor([[1.0005], [1]])
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("separator, point", [(",", "."), (";", ","), (";", "."), ("\t", ",")])
def test_files_of_spreadsheets_are_read(tmp_path, encoding, separator, point):
    """With a mark or without, and with the decimal comma of most of Europe."""
    lines = (
        "\n".join(GOOD).replace(",", separator).replace(".", point).replace(f"{point}png", ".png")
    )
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "soft.csv").write_text(mark + lines.replace("path", '"path"', 1), encoding=encoding)
    rows = read_distributions(tmp_path / "soft.csv", FILES, NAMES, others=["val/cat/1.png"])
    assert torch.equal(rows, read(tmp_path, GOOD))


def test_other_encodings_are_named_with_what_to_do(tmp_path):
    for at, content in (
        ("header", ["path,caf\xe9", "a,1"]),
        ("row", [*GOOD, "caf\xe9/1.png,1,0,0"]),
    ):
        (tmp_path / f"{at}.csv").write_text("\n".join(content), encoding="cp1252")
        with pytest.raises(
            ValueError, match=f'^distributions: .*{at}.csv is neither UTF-8 nor .* as "CSV UTF-8"$'
        ):
            read_distributions(tmp_path / f"{at}.csv", FILES, NAMES)


@pytest.mark.parametrize("line, change, message", [
    (0, "path,eel,cat,fox", "expected a column for each class; missing: dog; not among the classes: fox"),
    (0, "path,eel,cat,dog,dog", "expected a column for each class; there twice: dog"),
    (0, "file,eel,cat,dog", "expected the first column to be path, got 'file'"),
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
    (1, "train/dog/1.png,0,0.2,0.8,0", "line 2: expected 3 numbers, got more"),
    (4, ",0.25,0.5,0.25", "line 5: '' is none of the image files"),
    (3, "val/cat/1.png,2,0,0", "line 4, val/cat/1.png: expected 3 finite"),
])  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, line, change, message):
    with pytest.raises(ValueError, match=r"distributions: .*soft.csv.*" + message):
        read(tmp_path, [*GOOD[:line], change, *GOOD[line + 1 :]])


def test_no_file_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="distributions: .*none.csv is no file"):
        read_distributions(tmp_path / "none.csv", FILES, NAMES)
    with pytest.raises(ValueError, match="expected the first column to be path, got ''"):
        read(tmp_path, [])
