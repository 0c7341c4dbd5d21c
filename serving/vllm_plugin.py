"""What vLLM loads in each of its processes where Twinrail is installed (entry point `vllm.general_plugins`).

On CPU vLLM gathers LoRA weights by the index of the adapter of each token, and tokens of the base model have
index -1: the last slot. Once that slot was filled (unloading an adapter leaves it so), answers of the
base model are mixed with that adapter whenever they share a batch with an adapter's. Seen in 0.32;
vllm-project/vllm#48421 and #49656 are open. CUDA kernels skip such tokens.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def spare_the_base() -> None:
    """On CPU: tokens of the base model get nothing of any adapter. Called again it changes nothing."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    shrink = lora_ops.bgmv_shrink
    if getattr(shrink, "spares_the_base", False):
        return

    def sparing(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, indices, scaling)
        # What comes out of here is all that the second half of an adapter is given: zero stays zero.
        output[: indices.shape[0]].masked_fill_((indices < 0).unsqueeze(-1), 0.0)

    sparing.spares_the_base = True  # type: ignore[attr-defined]
    lora_ops.bgmv_shrink = sparing  # prefill goes through the module's name
    punica_cpu.bgmv_shrink = sparing  # decoding through the name imported there
    logger.info("tokens of the base model are kept apart from adapters")
