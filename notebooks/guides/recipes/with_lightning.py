"""Lightning: two mixed views of each digit, on one device or on several."""

import lightning
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from genscl_lite import GenSupConLoss, MixUpOrCutMix
from genscl_lite.datasets import load_dataset

AUGMENT = v2.Compose(
    [v2.ToDtype(torch.float32, scale=True), v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2))]
)


def two_views(batch):
    images, numbers = zip(*batch, strict=True)
    views = [torch.stack([AUGMENT(image) for image in images]) for _ in range(2)]
    return views, torch.stack(numbers)


class Contrastive(lightning.LightningModule):
    def __init__(self, network, num_classes):
        super().__init__()
        self.network, self.mix = network, MixUpOrCutMix(num_classes=num_classes, per_image=True)

    def setup(self, stage):
        self.loss = GenSupConLoss(0.1, gather_distributed=self.trainer.world_size > 1)

    def training_step(self, batch):
        views, numbers = batch  # 2 x (N, channels, height, width), (N,)
        images, labels = zip(*(self.mix(view, numbers) for view in views), strict=True)
        loss = self.loss(self.network(torch.cat(images)), torch.cat(labels))
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(epochs=10):
    digits = load_dataset("digits")
    pairs = list(zip(digits.train_images, digits.train_labels, strict=True))
    loader = DataLoader(pairs, 100, shuffle=True, drop_last=True, collate_fn=two_views)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64)
    )
    trainer = lightning.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False)
    trainer.fit(Contrastive(network, digits.num_classes), loader)
    return network


if __name__ == "__main__":
    main()
