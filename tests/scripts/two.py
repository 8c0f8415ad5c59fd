"""Trains on every process of a launch and writes what each one holds: `two.py OUT BATCH [DEVICES]`."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import psiphi as pp
from psiphi.parts import adam


def main() -> None:
    out, batch = Path(sys.argv[1]), int(sys.argv[2])
    devices = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    x = torch.rand(100, 12, generator=torch.Generator().manual_seed(0))
    model = pp.zoo.vae(12, latent_dim=3, hidden=(16,), seed=0)
    history = pp.fit(
        model, x, epochs=3, batch_size=batch, optimizer=adam(1e-2, clip=1.0), ema=0.9, seed=0, quiet=True,
        validation=x[:30], devices=devices, out=out / "run",
    )  # fmt: skip
    pp.fit(model, x, steps=2, batch_size=batch, seed=1, quiet=True, devices=devices)
    gan = pp.zoo.wgan_gp(12, 3, steps=2, hidden=(16,), seed=0)
    pp.fit(gan, x, epochs=3, batch_size=batch, seed=0, quiet=True, devices=devices)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 12)]
    normed = pp.zoo.gan(12, 3, generator=torch.nn.Sequential(*layers), hidden=(16,), seed=0)
    pp.fit(normed, x, epochs=2, batch_size=batch, seed=0, quiet=True, devices=devices)
    denoiser = pp.zoo.ddpm(12, hidden=(16, 16), seed=0)
    pp.fit(denoiser, x, epochs=3, batch_size=batch, seed=0, quiet=True, devices=devices)
    players = {f"ddpm.{key}": value for key, value in denoiser.state_dict().items()}
    players |= {f"gan.{key}": value for key, value in gan.state_dict().items()}
    players |= {f"normed.{key}": value for key, value in normed.state_dict().items()}
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    losses = torch.tensor([history["loss"], history["validation_loss"]], dtype=torch.float64)
    save_file({**model.state_dict(), **players, "losses": losses}, out / f"rank{rank}.safetensors")


if __name__ == "__main__":
    main()
