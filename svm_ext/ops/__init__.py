"""The ops, one file each: the public function, its fake for torch.compile, autograd formula, vmap rule.

Letters: S streams, B rows of a batch (streams with a new frame), W windows a stream, H heads, n window side
(n*n tokens a window), T frames a memory holds, D head dim.
"""

from .clip_attend import clip_attend
from .memory_append import memory_append_
from .memory_attend import memory_attend
from .nms import nms, nms_mask
from .stream_step import stream_step_

__all__ = ["clip_attend", "memory_append_", "memory_attend", "nms", "nms_mask", "stream_step_"]
