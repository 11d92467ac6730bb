"""What training has to choose from, and its fixed numbers; nothing here needs torch."""

NAMES = ("tiny-sd", "tiny-flux")  # the better one first
AUTOENCODER_BATCH = 48
IMAGES, AUTOENCODER_IMAGES = 500_000, 48_000  # seen unless told otherwise
SEED_STRIDE = 1_000_003  # a step's random numbers are seeded by SEED_STRIDE * seed + step
