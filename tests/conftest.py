"""One thread per test process: tests run in parallel, and their tensors are tiny."""

import torch

torch.set_num_threads(1)
