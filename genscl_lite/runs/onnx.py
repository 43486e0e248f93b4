"""A trained model for programs without PyTorch: one ONNX file, from images to features and probabilities."""

from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import files


class Whole(nn.Module):
    """Images in [0, 1], normalized inside, to features and probabilities."""

    def __init__(self, trained):
        super().__init__()
        model, data = trained.model, trained.dataset
        self.encoder, self.classifier = model.encoder, trained.probe or model.head
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(data, name)).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder((images - self.mean) / self.std)
        return features, self.classifier(features).softmax(dim=1)


def export_onnx(trained, path: str | Path) -> None:
    """Write a trained model (an ``Encoder``) as ONNX; beside it, as ``.json``, the names of the classes and the image shape.

    Input ``images`` (N, channels, H, W), float32 in [0, 1]; outputs ``features`` (N, F) and ``probabilities``
    (N, C). N is free.

    Raises:
        ValueError: ``path`` does not end in .onnx, or the packages that write ONNX are missing.
    """
    path = files.as_path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path: expected a file name ending in .onnx, got {path}")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"onnx: {error}; pip install 'genscl-lite[onnx]'") from None
    device = trained.device
    whole = Whole(trained).cpu().eval()
    try:
        program = torch.onnx.export(
            whole,
            (torch.zeros(2, *trained.image_shape),),
            dynamo=True,
            input_names=["images"],
            output_names=["features", "probabilities"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    finally:
        whole.to(device)
    with files.atomic_write(path) as temporary:
        program.save(str(temporary), external_data=False)
    about = {
        "class_names": trained.class_names,
        "image_shape": trained.image_shape,
        "intensity": trained.dataset.intensity,
    }
    files.write_json(path.with_suffix(".json"), about)
