"""The encoder that comes with a clone: half the bytes, the same answers, a card that says what it is."""

import pytest
import torch

from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.paths import RESULTS
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.loop import pretrain
from tests.scripts import load_script

ENCODERS = RESULTS.parent / "encoders"
SHIPPED = sorted(ENCODERS.glob("*.safetensors"))


def test_a_run_is_kept_in_half_precision_with_a_card(quick, digits, tmp_path):
    make = load_script(ENCODERS / "keep_encoder.py")
    run = pretrain(quick("genscl_mix"), digits, tmp_path / "run")
    finish_run(run, digits, tmp_path / "run")
    asked = [str(tmp_path / "run"), "small", "--chosen", "The only one.", "--out", str(tmp_path)]
    assert make.main(asked) == 0
    whole = Encoder.load(tmp_path / "run", "cpu")
    half = Encoder.load(tmp_path / "small.safetensors", "cpu")
    images = digits.test_images[:50]
    torch.testing.assert_close(
        half.probabilities(images), whole.probabilities(images), atol=0.01, rtol=0
    )
    sizes = [
        path.stat().st_size
        for path in (tmp_path / "run/model.safetensors", tmp_path / "small.safetensors")
    ]
    assert sizes[1] < 0.6 * sizes[0]
    card = (tmp_path / "small.md").read_text()
    assert "GenSCL + MixUp-CutMix, trained by" in card and "The only one." in card
    assert '"epochs": 3' in card and "CC BY 4.0" in card


def test_a_run_that_is_not_there_is_one_line(tmp_path, capsys):
    make = load_script(ENCODERS / "keep_encoder.py")
    assert make.main([str(tmp_path / "no"), "small", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: run: ")


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_what_comes_with_the_clone_names_a_photograph(path):
    encoder = Encoder.load(path, "cpu")
    photo = torch.randint(256, (1, *encoder.image_shape), dtype=torch.uint8)
    assert encoder.predict(photo)[0] in encoder.class_names
    assert path.stat().st_size < 3_000_000 and path.with_suffix(".md").exists()
