"""Classifier: S-ViT and a temporal decoder over one feature a frame; a clip or a live stream in, actions out.

logits = classifier(clip)  # [B, T, 3, 224, 224], normalised, gives [B, classes]

memory = classifier.new_memory(streams=1, image_size=(224, 224))
for frame in video:  # [1, 3, 224, 224]
    logits = classifier(frame, memory)  # of the last frames, this one included
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import _snapshot
from ..memory import StreamMemory, Streams
from .config import ClassifierConfig
from .decoder import TemporalDecoder
from .svit import Features, SVit


@dataclass(frozen=True)
class ClassifierMemory:
    """What a classifier remembers of its streams: the backbone's memory, and the features of the last frames."""

    stream: StreamMemory
    # [streams, clip_frames, C], the newest last; places before a stream's first frame mean nothing
    features: Tensor = field(repr=False)

    def extend(self, newest: Tensor, streams: Streams = None) -> tuple[Tensor, Tensor]:
        """Append a frame's features [B, C]; return those of the last frames [B, T, C], and how many they are [B].

        The stream's memory has advanced past the frame already. What is stored is detached.
        """
        rows = self._rows(streams)
        features = torch.cat([self.features[rows, 1:], newest[:, None].to(self.features.dtype)], dim=1)  # [B, T, C]
        self.features[rows] = features.detach()
        return features, self.stream.step[rows].clamp(max=features.shape[1])

    def reset(self, streams: Streams = None) -> None:
        """Forget everything that these streams have seen; the other streams are not touched."""
        self.stream.reset(streams)

    @property
    def step(self) -> Tensor:
        """Frames that each stream has seen, int64 [streams]."""
        return self.stream.step

    @property
    def nbytes(self) -> int:
        """Bytes that the memory occupies, full or not."""
        return self.stream.nbytes + self.features.nbytes

    def snapshot(self, streams: Streams = None) -> dict[str, Any]:
        """Copy these streams into plain tensors: those of StreamMemory.snapshot, and `features` [B, T, C]."""
        return self.stream.snapshot(streams) | {"features": self.features[self._rows(streams)].clone()}

    def restore(self, state: dict[str, Any], streams: Streams = None) -> None:
        """Put the streams of a snapshot into these streams; everything is checked before anything is written."""
        features, known = state.get("features"), len(state.get("step", ()))
        expected = [known, *self.features.shape[1:]]
        if not isinstance(features, Tensor) or list(features.shape) != expected:
            found = list(features.shape) if isinstance(features, Tensor) else features
            raise ValueError(
                f"features: expected {expected}, got {found}; restore a snapshot of a memory like this one"
            )
        self.stream.restore(state, streams)
        self.features[self._rows(streams)] = features.to(self.features)

    def save(self, path: str | Path, streams: Streams = None) -> None:
        """Write a snapshot to a safetensors file; the file is there whole or not at all."""
        _snapshot.write(self.snapshot(streams), Path(path))

    def load(self, path: str | Path, streams: Streams = None) -> None:
        """Restore from a file that `save` wrote; a file that is cut or does not fit changes nothing."""
        self.restore(_snapshot.read(Path(path)), streams)

    def _rows(self, streams: Streams) -> Tensor | slice:
        """Return what picks these streams' features; the ids were checked by the stream's memory."""
        return slice(None) if streams is None else torch.as_tensor(streams, device=self.features.device)


class Classifier(nn.Module):
    """Tells what happens in a video.

    A clip [B, T, 3, height, width] gives logits [B, classes]. Frames [B, 3, height, width] go with a memory,
    whose streams they continue, and give logits for the last `clip_frames` frames of each stream. As long as a
    stream has no more frames than that, nor its memory has evicted any, they are the logits of its frames as a
    clip. With `causal` no frame sees a later one, and the model learns to answer after every frame.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config, width, heads = config, config.backbone.width, config.backbone.heads
        if config.backbone.adapter:
            raise ValueError(
                "adapter: expected false for a classifier, which takes the last stage, got true; change it"
            )
        self.backbone = SVit(config.backbone)
        self.decoder = TemporalDecoder(width, heads, config.decoder_layers, config.clip_frames, causal=config.causal)
        self.ln_post = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, frames: Tensor, memory: ClassifierMemory | None = None, streams: Streams = None) -> Tensor:
        """Return the logits [B, classes] of clips, or of the streams that these frames continue."""
        if memory is None:
            return self._clip_logits(frames)[:, -1]
        if not isinstance(memory, ClassifierMemory):
            found = type(memory).__name__
            raise ValueError(f"memory: expected a ClassifierMemory, got {found}; make one with classifier.new_memory")
        newest = self._pooled(self.backbone.features(frames, memory.stream, streams))  # [B, C]
        return self._logits(*memory.extend(newest, streams))[:, -1]

    def loss(self, clip: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of clips [B, T, 3, height, width] with labels int64 [B].

        With `causal` every frame answers for the clip up to itself, and all answers count alike.
        """
        logits = self._clip_logits(clip)  # [B, answers, classes]
        if labels.shape != logits.shape[:1]:
            raise ValueError(
                f"labels: expected one for each clip, {[len(logits)]}, got {list(labels.shape)}; name a class each"
            )
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))

    def new_memory(
        self,
        streams: int,
        image_size: tuple[int, int],
        *,
        frames: int | None = None,
        evict: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> ClassifierMemory:
        """Return an empty memory for streams of pictures of this height and width; arguments as the backbone's."""
        stream = self.backbone.new_memory(streams, image_size, frames=frames, evict=evict, dtype=dtype, device=device)
        shape = (streams, self.config.clip_frames, self.config.backbone.width)
        with torch.inference_mode(False):  # as in StreamMemory: it may serve a training step later
            return ClassifierMemory(stream, self.head.weight.new_zeros(shape, device=stream.device))

    def _clip_logits(self, clip: Tensor) -> Tensor:
        """Return the logits of clips [B, T, 3, height, width], [B, answers, classes]."""
        if clip.ndim != 5:
            raise ValueError(f"clip: expected [B, T, 3, height, width], got {list(clip.shape)}; give frames a memory")
        batch, frames = clip.shape[:2]
        if self.config.causal and frames > self.config.clip_frames:
            raise ValueError(
                f"clip: expected at most clip_frames {self.config.clip_frames} frames for a causal model, got {frames};"
                " take fewer, or stream them"
            )
        features = self._pooled(self.backbone.features(clip))  # [B, T, C]
        return self._logits(features, torch.full((batch,), frames, device=clip.device))

    def _pooled(self, features: Features) -> Tensor:
        """Return one feature a frame, [.., C]: the class token, or the mean of the last stage's tokens."""
        return features.maps[-1].mean((-2, -1)) if features.class_token is None else features.class_token

    def _logits(self, features: Tensor, held: Tensor) -> Tensor:
        """Return the logits for the last held [B] of the features [B, T, C].

        They are [B, answers, classes]: one answer for all frames, or with `causal` one after each place.
        """
        length = features.shape[1]
        seen = torch.arange(1, length + 1, device=features.device) - (length - held[:, None])  # [B, T], frames so far
        x = self.decoder(features, held).masked_fill((seen <= 0)[..., None], 0).cumsum(1)  # [B, T, C]
        mean = x / seen.clamp(min=1)[..., None]
        return self.head(self.ln_post(mean if self.config.causal else mean[:, -1:]))
