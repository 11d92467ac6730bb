"""The measures of the experiments, one per module; counts per image first, so that they can be resampled."""
