"""The embedded models' networks at a size that any CPU trains, draws with and hashes at once."""

from tokenrank_guidance.tiny.architecture import Size

SMALL = Size(autoencoder=16, blocks=(1, 1), heads=2, unet=(32, 64))
