"""Statistics of real images: mean and covariance of features, so that FID's stand-in needs no images.

`python -m eval.fidelity.reference` writes them, a few hundred kB for a tiny ViT.
"""
