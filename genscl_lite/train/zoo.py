"""Networks of torchvision and timm by name (``torchvision/resnet50``, ``timm/vit_tiny_patch16_224``), new or pretrained."""

import inspect

import torchvision
from torch import nn
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

from genscl_lite._checks import nearest, require_choice

SOURCES = ("torchvision", "timm")


def source_of(arch: str) -> tuple[str, str]:
    """Split ``arch`` into one of ``SOURCES`` and the name there; ("", arch) for any other name.

    >>> source_of("torchvision/vit_b_16"), source_of("resnet18")
    (('torchvision', 'vit_b_16'), ('', 'resnet18'))
    """
    source, _, name = str(arch).partition("/")
    return (source, name) if source in SOURCES else ("", arch)


def torchvision_names() -> list[str]:
    """Return the names of all classification models of the torchvision that is installed."""
    return list_models(module=torchvision.models)


def timm_names(arch: str) -> list[str]:
    """Return the names of all networks of timm, with and without the tags of their weights; ValueError without timm."""
    timm = _timm(arch)
    return [*timm.list_models(), *timm.list_pretrained()]


def check_network(arch: str) -> None:
    """Raise ValueError unless ``arch`` names a network of torchvision or of timm; nothing is built.

    >>> check_network("torchvision/resnet51")
    Traceback (most recent call last):
    ValueError: arch: 'torchvision/resnet51' is unknown (did you mean 'torchvision/resnet50'?); expected a ...
    """
    source, name = source_of(arch)
    names = torchvision_names() if source == "torchvision" else timm_names(arch)
    if name not in names:
        hint = nearest(arch, [f"{source}/{known}" for known in names])
        raise ValueError(f"arch: {arch!r} is unknown{hint}; expected a classification model of {source}, as {source}/NAME")


def build_network(
    arch: str, classes: int | None, in_channels: int = 3, image_size: int | None = None, weights: str = ""
) -> nn.Module:
    """Build a network of torchvision or timm. Without ``weights`` nothing is downloaded.

    Args:
        arch: ``torchvision/NAME`` or ``timm/NAME``.
        classes: C for logits (N, C); None for features (N, F), without the classifier.
        in_channels: of the images; torchvision's networks take 3.
        image_size: height and width in pixels, for networks that are made for one size; None: their own.
        weights: of torchvision, by torchvision's name ("DEFAULT", "IMAGENET1K_V2"); empty: a new network.

    Raises:
        ValueError: name, channels, size or weights do not exist or do not fit.

    >>> import torch
    >>> build_network("torchvision/shufflenet_v2_x0_5", classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    check_network(arch)
    if source_of(arch)[0] == "timm":
        if weights:
            raise ValueError(f"weights: {weights!r} are torchvision's, and {arch} is of timm; expected an empty name")
        return _build_timm(arch, classes, in_channels, image_size)
    return _build_torchvision(arch, classes, in_channels, image_size, weights)


def pretrained_timm(arch: str, in_channels: int = 3) -> tuple[nn.Module, dict[str, tuple[float, ...]]]:
    """Build a classifier of timm with its weights, which are downloaded; return it and the ``mean`` and ``std`` it expects."""
    check_network(arch)
    network = _timm(arch).create_model(source_of(arch)[1], pretrained=True, in_chans=in_channels)
    return network, {name: tuple(network.pretrained_cfg[name]) for name in ("mean", "std")}


def weight_classes(arch: str, weights: str = "DEFAULT") -> tuple[str, ...]:
    """Return the C class names of torchvision's weights, in the order of the logits; nothing is downloaded.

    Logits are compared by position: a teacher fits a data set if these are its ``class_names``, in the same order.

    Raises:
        ValueError: ``arch`` is not of torchvision, or has no weights of this name.

    >>> weight_classes("torchvision/resnet50")[:2]
    ('tench', 'goldfish')
    """
    if source_of(arch)[0] != "torchvision":
        raise ValueError(f"weights: only torchvision/NAME has weights by name, got {weights!r} for {arch!r}")
    check_network(arch)
    known = get_model_weights(source_of(arch)[1]).__members__
    require_choice("weights", weights, known)
    return tuple(known[weights].meta["categories"])


def _build_torchvision(arch: str, classes: int | None, in_channels: int, image_size: int | None, weights: str) -> nn.Module:
    if in_channels != 3:
        raise ValueError(f"in_channels: {arch} takes 3 channels, got {in_channels}; the kit's own names (resnet18) and "
                         "timm/NAME take any number")
    name = source_of(arch)[1]
    options = {"num_classes": classes or 1000}
    if weights:
        carried = len(weight_classes(arch, weights))
        if classes is not None and classes != carried:
            raise ValueError(f"weights: {weights} of {arch} have {carried} classes, expected {classes}; take weights of "
                             f"these {classes} classes, or none")
        options["num_classes"] = carried
    accepted = inspect.signature(inspect.signature(get_model_builder(name)).return_annotation).parameters
    if not weights and "init_weights" in accepted:
        options["init_weights"] = True  # what it is anyway; said aloud, GoogLeNet and Inception do not warn
    if image_size and "image_size" in accepted:  # ViT
        options["image_size"] = image_size
    if image_size and "input_size" in accepted:  # MaxViT
        options["input_size"] = (image_size, image_size)
    network = _sized(get_model, arch, image_size, {"weights": weights or None} | options)
    if getattr(network, "aux_logits", False):
        _drop_auxiliary_heads(network)
    return network if classes is not None else _without_classifier(network, options["num_classes"])


def _without_classifier(network: nn.Module, classes: int) -> nn.Module:
    """Put nn.Identity in place of the last layer with so many outputs: linear, or a convolution (SqueezeNet)."""
    found = [name for name, layer in network.named_modules() if _outputs(layer) == classes]
    if not found:
        raise ValueError(f"arch: {type(network).__name__} has no layer with {classes} outputs that could be its classifier")
    parent, _, child = found[-1].rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def _outputs(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _drop_auxiliary_heads(network: nn.Module) -> None:
    """GoogLeNet and Inception give three outputs, or two, in training mode; leave the one that counts."""
    network.aux_logits = False
    for name in ("aux1", "aux2", "AuxLogits"):
        if hasattr(network, name):
            setattr(network, name, None)


def _build_timm(arch: str, classes: int | None, in_channels: int, image_size: int | None) -> nn.Module:
    timm, name = _timm(arch), source_of(arch)[1]
    pretrained = timm.get_pretrained_cfg(name)
    sized = {"img_size": image_size} if image_size and pretrained and pretrained.fixed_input_size else {}
    return _sized(timm.create_model, arch, image_size, {"num_classes": classes or 0, "in_chans": in_channels} | sized)


def _sized(build, arch: str, image_size: int | None, options: dict) -> nn.Module:
    """Build, and say which size it was where the builder says that it does not fit."""
    try:
        return build(source_of(arch)[1], **options)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"image_size: {arch} cannot be built for {image_size or 'its own'} pixels: {error}") from error


def _timm(arch: str):
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"arch: {arch!r} needs timm, which cannot be imported ({error}); run `pip install timm`") from error
    return timm
