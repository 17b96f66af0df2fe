"""Generated street scenes with exact ground truth, for training, for tests and to show: `Scene`, `SceneDataset`.

People walk through a street, cross each other, stop behind pillars and hedges with little of them to be seen, leave
and come back; a camera that is never quite still drifts past houses, trembles, is pushed, loses focus, meets shade.
One picture does not tell everything: among the people stand statues that are made, dressed and caught in mid-stride
like people, and only time tells who walks; an arm behind a pillar, or a figure in a blur, belongs to somebody who was
plain to see a moment before.

A frame is a function of the seed and its number: any frame can be had without the frames before it, and a scene of any
length needs no more memory than a short one. The same seed gives the same pixels on every machine (`_scenes` says why).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ._scenes import picture
from ._scenes.camera import Camera
from ._scenes.cast import FPS as FPS
from ._scenes.cast import Cast, statues
from ._scenes.dice import CLIPS, Dice
from ._scenes.stage import stage
from .clips import Key, split_key
from .videos import Clip, Target


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What a scene is like, at 25 frames a second; the strengths are 1 as usual and 0 for none."""

    size: tuple[int, int] = (192, 320)  # height and width in pixels, at least 64
    people: int = 12  # places for walkers; at a time about 5 are to be seen
    statues: int = 3  # figures that look like people and never move; not in the ground truth
    far: float = 9.5  # metres to the farthest walkers, from 4.5 on; who is nearest is 3.7 metres away
    hiding: float = 1.0  # how many walkers stop behind props
    props: int = 5  # pillars, trees, hedges and the like, in front of people
    shake: float = 1.0  # the camera trembles and is pushed
    blur: float = 1.0  # of what moves fast, and of a camera that loses focus
    shade: float = 1.0  # changes of light
    noise: float = 1.0  # of the sensor

    def __post_init__(self) -> None:
        if min(self.size) < 64:
            raise ValueError(f"size: expected a height and a width of at least 64 pixels, got {self.size}")
        for name in ("people", "statues", "props"):
            if not 0 <= getattr(self, name) <= 60:
                raise ValueError(f"{name}: expected 0 to 60, got {getattr(self, name)}")
        if not 4.5 <= self.far <= 9.5:
            raise ValueError(f"far: expected 4.5 to 9.5 metres, got {self.far}")
        for name in ("hiding", "shake", "blur", "shade", "noise"):
            if not 0 <= getattr(self, name) <= 2:
                raise ValueError(f"{name}: expected a strength from 0 to 2, got {getattr(self, name)}")


@dataclass(frozen=True)
class SceneFrame:
    """One frame, and the truth about everybody whose box reaches into it.

    Boxes hold the whole person, also what is hidden or beyond the border. `visibility` is the share of the person's
    pixels that is in the picture with nothing in front. `ids` follow the MOTChallenge: who leaves the picture and
    comes back gets a new one; `people` stay the same for ever. `blurred` says that the outline is washed out over
    more than a sixth of the box's width.
    """

    index: int
    image: np.ndarray  # uint8 [3, H, W], RGB
    boxes: np.ndarray  # float32 [n, 4], x1 y1 x2 y2 in pixels
    ids: np.ndarray  # int64 [n]
    visibility: np.ndarray  # float32 [n]
    blurred: np.ndarray  # bool [n]
    people: np.ndarray  # int64 [n]

    def targets(self, min_visibility: float = 0.0) -> Target:
        """Return those that can be seen at least so far, as a detector is trained with them."""
        chosen = self.visibility >= min_visibility
        return {
            "boxes": torch.from_numpy(self.boxes[chosen]),  # [n, 4]
            "labels": torch.zeros(int(chosen.sum()), dtype=torch.int64),
            "ids": torch.from_numpy(self.ids[chosen]),
            "visibility": torch.from_numpy(self.visibility[chosen]),
            "blurred": torch.from_numpy(self.blurred[chosen]),
        }


class Scene:
    """A street for ever: `scene[n]` is frame n, and iterating gives all frames from 0 on.

    `place` is the seed of the street; without it the street is the seed's own. Scenes that share a place have other
    people and other statues in it.
    """

    def __init__(self, seed: int, config: SceneConfig | None = None, *, place: int | None = None) -> None:
        place = seed if place is None else place
        if min(seed, place) < 0:
            raise ValueError(f"seed: expected whole numbers of at least 0, got seed {seed} and place {place}")
        self.seed, self.place, self.config = seed, place, config or SceneConfig()
        chosen, (height, width) = self.config, self.config.size
        self._stage = stage(place, height, width, chosen.props, chosen.far)
        self._camera = Camera(
            seed, height, shake=chosen.shake, blur=chosen.blur, shade=chosen.shade, noise=chosen.noise
        )
        self._cast = Cast(seed, self._stage, chosen.people, self._camera.x, chosen.hiding)
        self._statues = statues(seed, self._stage, chosen.statues)

    def __getitem__(self, index: int) -> SceneFrame:
        if index < 0:
            raise IndexError(f"index: expected the number of a frame, from 0 on, got {index}")
        shot = self._camera.shot(index)
        drawn = picture.draw(self._stage, shot, [*self._statues, *self._cast.at(index)], self.config.blur)
        people = drawn.people
        return SceneFrame(
            index,
            drawn.pixels,
            np.array([person.box for person in people], np.float32).reshape(-1, 4),
            np.array([person.id for person in people], np.int64),
            np.array([person.visibility for person in people], np.float32),
            np.array([person.blurred for person in people], bool),
            np.array([person.person for person in people], np.int64),
        )

    def __iter__(self) -> Iterator[SceneFrame]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[SceneFrame]:
        """Give frames one by one, without an end if `stop` is None."""
        index = start
        while stop is None or index < stop:
            yield self[index]
            index += step


class SceneDataset:
    """Clips of generated scenes, as a map-style data set: item i is (clip uint8 [T, 3, H, W], T targets).

    A target is a dict of boxes [n, 4], labels, ids, visibility and blurred, of those people of whom at least
    `min_visibility` is to be seen. Every item is a scene of its own, at a time of its own, in one of `places`
    streets; its frames are 1 to `strides` apart. A key (epoch, i) gives another clip in every epoch.
    """

    def __init__(
        self,
        seed: int,
        config: SceneConfig | None = None,
        *,
        clip_frames: int = 8,
        length: int = 2000,
        strides: tuple[int, int] = (1, 4),
        places: int = 32,
        min_visibility: float = 0.1,
    ) -> None:
        for name, count in {"clip_frames": clip_frames, "length": length, "places": places}.items():
            if count < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {count}")
        if not 1 <= strides[0] <= strides[1]:
            raise ValueError(f"strides: expected the least and the greatest, from 1 on, got {strides}")
        self.seed, self.config = seed, config or SceneConfig()
        self.clip_frames, self.length, self.strides = clip_frames, length, strides
        self.places, self.min_visibility = places, min_visibility

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> Clip:
        epoch, index = split_key(key, self.length)
        dice = Dice(self.seed, CLIPS, epoch, index)
        place = Dice(self.seed, CLIPS).below(1 << 30) + dice.below(self.places)
        scene = Scene(dice.below(1 << 30), self.config, place=place)
        stride = self.strides[0] + dice.below(self.strides[1] - self.strides[0] + 1)
        start = dice.below(20_000)
        frames = list(scene.frames(start, start + stride * self.clip_frames, stride))
        clip = torch.from_numpy(np.stack([frame.image for frame in frames]))  # [T, 3, H, W]
        return clip, [frame.targets(self.min_visibility) for frame in frames]
