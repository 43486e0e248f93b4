"""The experiments of notebooks 01, 04 and 05 at all their settings: who runs them, and what lies in the clone."""

import matplotlib
import pytest

from genscl_lessons.experiments import fold_table, read_found
from genscl_lite.runs.paths import NOTEBOOKS
from tests.scripts import load_script


@pytest.mark.parametrize(
    "notebook, functions",
    [
        ("04_mixup_cutmix", {"train"}),
        ("05_distillation", {"learn_wrong_labels", "on_the_wrong_ones", "students_of"}),
    ],
)
def test_the_tagged_cells_define_what_is_run(notebook, functions, capsys):
    matplotlib.use("agg")
    names = load_script(NOTEBOOKS / "experiments" / "train_all.py").names_of(notebook)
    assert functions <= names.keys()


@pytest.mark.parametrize(
    "name, setting",
    [("mixing", ["steps", "way"]), ("wrong_labels", ["fraction"]), ("temperatures", ["tau"])],
)
def test_every_setting_has_the_same_seeds(name, setting):
    found = read_found(name)
    assert not found.isna().any(axis=None)
    seeds = found.groupby(setting).seed.agg(tuple)
    assert len(seeds) > 1 and seeds.nunique() == 1 and len(seeds.iloc[0]) > 1


def test_a_table_is_folded_and_its_sentences_are_text(capsys):
    fold_table(read_found("mixing").head(2), "less < more")
    assert "HTML" in capsys.readouterr().out
