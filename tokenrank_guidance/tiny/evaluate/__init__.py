"""How good is an embedded model? `python -m tokenrank_guidance.tiny.evaluate`.

An ImageNet classifier, restricted to the ten Imagenette classes, names 500 samples; the share it gets right
stands beside the same share for real held-out images at the model's resolution, as they are and after a pass
through its autoencoder, and beside chance.
"""
