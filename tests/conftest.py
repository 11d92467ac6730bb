"""Settings for every test: one thread, since tiny models lose more to synchronisation than they gain."""

import torch

torch.set_num_threads(1)
