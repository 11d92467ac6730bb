"""The experiments: masking, generation, fidelity, segmentation, zero-shot; run as `python -m eval.NAME`."""
