"""timm: its network, its Mixup, whose soft labels the loss takes, its optimizer and schedule."""

import timm
import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

from genscl_lite import GenSupConLoss
from genscl_lite.datasets import load_dataset


def main(epochs=10, name="resnet10t", device="cpu"):
    digits = load_dataset("digits")
    images = torch.nn.functional.interpolate(digits.train_images / 255, size=32).to(device)
    numbers = digits.train_labels.to(device)

    encoder = timm.create_model(name, in_chans=1, num_classes=0)
    head = torch.nn.Linear(encoder.head_hidden_size, 64)
    network = torch.nn.Sequential(encoder, head).to(device)
    mix = Mixup(mixup_alpha=1.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=10, mode="elem")
    loss = GenSupConLoss(temperature=0.1)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=3e-3, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, t_initial=epochs, warmup_t=1, warmup_lr_init=1e-4)

    network.train()
    for epoch in range(epochs):
        schedule.step(epoch)
        for index in torch.randperm(len(images), device=device).split(100):
            index = index[: len(index) // 2 * 2]  # timm mixes pairs
            views = [mix(images[index], numbers[index]) for _ in range(2)]
            mixed, labels = (torch.cat(part) for part in zip(*views, strict=True))
            value = loss(network(mixed), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {value.item():.3f}")
    return network


if __name__ == "__main__":
    main()
