"""Hugging Face: a vision transformer, its Trainer, and the loss in the place of the model's own."""

import torch
from torchvision.transforms import v2
from transformers import Trainer, TrainingArguments, ViTConfig, ViTModel

from genscl_lite import gen_supcon_loss
from genscl_lite.datasets import load_dataset

AUGMENT = v2.Compose(
    [v2.ToDtype(torch.float32, scale=True), v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2))]
)


def two_views(batch):
    views = [AUGMENT(image) for _ in range(2) for image, _ in batch]
    return {"pixel_values": torch.stack(views), "labels": torch.stack([y for _, y in batch] * 2)}


class Latents(torch.nn.Module):
    def __init__(self, encoder, latent_dim=64):
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.config.hidden_size, latent_dim)

    def forward(self, pixel_values):
        return self.head(self.encoder(pixel_values).last_hidden_state.mean(dim=1))


class ContrastiveTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        latents = model(inputs["pixel_values"])
        spread = self.args.world_size > 1
        loss = gen_supcon_loss(
            latents, inputs["labels"], temperature=0.1, gather_distributed=spread
        )
        return (loss, latents) if return_outputs else loss


def main(epochs=10, folder="runs/recipe"):
    digits = load_dataset("digits")
    config = ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4,
    )  # fmt: skip
    options = TrainingArguments(
        folder, num_train_epochs=epochs, per_device_train_batch_size=50, learning_rate=1e-3,
        dataloader_drop_last=True, remove_unused_columns=False, report_to="none", save_strategy="no",
    )  # fmt: skip
    pairs = list(zip(digits.train_images, digits.train_labels, strict=True))
    network = Latents(ViTModel(config, add_pooling_layer=False))
    ContrastiveTrainer(network, options, two_views, pairs).train()
    return network


if __name__ == "__main__":
    main()
