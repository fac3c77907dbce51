"""The precisions by the names that are typed."""

import torch

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FP32 = "no"
