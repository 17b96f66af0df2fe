"""Who walks where: walks that cross the place, stop behind things, turn round, leave and come back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .dice import CAST, DECOYS, Dice
from .figures import POSES, STANDING, STRIDE, Look, look
from .props import Prop
from .stage import NEAR, SWAY, TREMBLE, TURN, Stage

FPS = 25.0  # frames a second
_RAMP = 5.0  # frames to reach full speed
_VISITS = 16  # ids set aside for each lap of each place

# kind of walk -> how often
KINDS = {"hide": 5.0, "pass": 1.5, "stroll": 1.5, "return": 1.5, "run": 1.5, "deep": 1.0}


class Step(NamedTuple):
    """A straight walk, or a wait, from a frame on."""

    start: int
    frames: int
    origin: tuple[float, float]  # x and z in metres
    way: tuple[float, float]
    speed: float  # metres a second; 0 for a wait
    walked: float  # metres before this step
    view: int


class Pose(NamedTuple):
    """Where somebody is at a frame, and how that looks."""

    look: Look
    x: float
    z: float
    view: int
    pose: int
    across: float  # metres to the right per frame
    person: int  # 0 for a figure that is none
    id: int


class Visit(NamedTuple):
    """One appearance of a person, from entering the picture to leaving it."""

    look: Look
    person: int
    id: int
    steps: tuple[Step, ...]

    @property
    def end(self) -> int:
        """The first frame without this person."""
        return self.steps[-1].start + self.steps[-1].frames

    def at(self, time: int) -> Pose | None:
        """Return where the person is at a frame of the lap."""
        for step in self.steps:
            if step.start <= time < step.start + step.frames:
                return self._pose(step, time)
        return None

    def _pose(self, step: Step, time: int) -> Pose:
        share, pace = _ease(time - step.start + 0.5, step.frames) if step.speed else (0.0, 0.0)
        x, z = (begin + share * length for begin, length in zip(step.origin, step.way, strict=True))
        length = _length(step.way)
        cycle = self.look.height * (0.55 + 0.25 * step.speed)
        phase = int((step.walked + share * length) / cycle * STRIDE) % STRIDE
        if not step.speed:
            pose = POSES - STANDING + (time // 14 + self.id) % STANDING
        else:
            pose = phase if pace * step.frames > 0.75 else STRIDE + phase
        return Pose(self.look, x, z, step.view, pose, pace * step.way[0], self.person, self.id)


def _length(way: tuple[float, float]) -> float:
    return math.sqrt(way[0] * way[0] + way[1] * way[1])


def _ease(time: float, frames: int) -> tuple[float, float]:
    """Return the share of a way that lies behind, and the share made per frame: slow at both ends."""
    ramp = min(_RAMP, frames / 2.0)
    pace = 1.0 / (frames - ramp)
    if time < ramp:
        return pace * time * time / (2.0 * ramp), pace * time / ramp
    if time > frames - ramp:
        left = frames - time
        return 1.0 - pace * left * left / (2.0 * ramp), pace * left / ramp
    return pace * (time - ramp / 2.0), pace


class Cast:
    """All people of a scene. Each of its places is taken by one walker after another, planned lap by lap."""

    def __init__(
        self, seed: int, stage: Stage, people: int, camera_x: Callable[[float], float], hiding: float = 1.0
    ) -> None:
        self._seed, self._stage, self._people, self._camera_x = seed, stage, people, camera_x
        self._kinds = {**KINDS, "hide": KINDS["hide"] * hiding}
        # A lap, in frames, is long enough to cross the picture at its far end, slowly and with a rest.
        self._frames = round(24.0 * FPS * max(1.0, stage.geometry.width / stage.geometry.height / 1.8))
        dice = Dice(seed, CAST)
        self._delays = [dice.below(self._frames) for _ in range(people)]
        self._lap = lru_cache(maxsize=2 * people + 2)(self._plan)

    def at(self, frame: int) -> list[Pose]:
        """Return everybody who is about at a frame."""
        found = []
        for place, delay in enumerate(self._delays):
            lap, time = divmod(frame + delay, self._frames)
            found += [pose for visit in self._lap(place, lap) if (pose := visit.at(time))]
        return found

    def _plan(self, place: int, lap: int) -> tuple[Visit, ...]:
        """Return the visits of one lap of one place."""
        dice = Dice(self._seed, CAST, place, lap)
        first = (lap * self._people + place) * _VISITS + 1
        visits: list[Visit] = []
        time = dice.below(50)
        while len(visits) < _VISITS - 1:
            kind = dice.pick(tuple(self._kinds), tuple(self._kinds.values()))
            person, clothes = first + len(visits), look(dice, self._stage.drab)
            planned = []
            for steps in self._walks(dice, kind, time, lap * self._frames - self._delays[place]):
                planned.append(Visit(clothes, person, person + len(planned), tuple(steps)))
            if planned[-1].end > self._frames:
                break
            visits += planned
            time = planned[-1].end + dice.below(40)
        return tuple(visits)

    def _walks(self, dice: Dice, kind: str, time: int, epoch: int) -> list[list[Step]]:
        """Return the steps of a walk, and of the way back for those who come back; `epoch` is the lap's first frame."""
        side, z = dice.pick((-1, 1)), 1.0 / dice.uniform(1.0 / self._stage.far, 1.0 / NEAR)
        speed = dice.uniform(1.0, 1.75)
        if kind == "run":
            speed = dice.uniform(3.0, 4.6)
        if kind == "hide" and self._stage.props:
            prop = dice.pick(self._stage.props)
            z = min(prop.z * dice.uniform(1.12, 1.6), self._stage.far)
            return [self._hide(dice, _Path(time, self._outside(side, z), speed), side, prop, epoch)]
        path = _Path(time, self._outside(side, z), speed)
        if kind == "stroll":
            path.go(dice.uniform(-0.7, 0.7) * self._stage.geometry.edge(z), z)
            path.wait(dice, 12 + dice.below(30))
            side = dice.pick((-1, 1))
        if kind == "deep":
            other = NEAR + self._stage.far - z
            path.go(dice.uniform(-0.4, 0.4) * self._stage.geometry.edge(other), other)
            z = other
        path.go(*self._outside(-side, z))
        if kind != "return":
            return [path.steps]
        back = _Path(path.time + 6 + dice.below(40), self._outside(-side, z), speed)
        back.go(*self._outside(side, z))
        return [path.steps, back.steps]

    def _hide(self, dice: Dice, path: _Path, side: int, prop: Prop, epoch: int) -> list[Step]:
        """Walk behind a thing, wait there with a part of oneself to be seen, walk on or back."""
        z = path.at[1]
        wide, frames = prop.half * z / prop.z, 24 + dice.below(50)
        peek = dice.pick((-1, 1)) * max(wide + 0.2 - dice.uniform(0.1, 0.3), 0.0)
        spot = prop.x * z / prop.z + peek
        moment = path.time + path.frames_to(spot, z) + frames / 2
        camera = self._camera_x(epoch + moment)  # what hides whom depends on where the camera is just then
        path.go(spot + camera * (1.0 - z / prop.z), z)
        path.wait(dice, frames)
        path.go(*self._outside(side if dice.chance(0.3) else -side, z))
        return path.steps

    def _outside(self, side: int, z: float) -> tuple[float, float]:
        """Return a place beside the picture that no turn of the camera shows."""
        return side * (self._stage.geometry.edge(z) + SWAY + (TURN + TREMBLE) * z + 0.5), z


class _Path:
    """Puts steps one after the other."""

    def __init__(self, time: int, at: tuple[float, float], speed: float) -> None:
        self.time, self.at, self.speed = time, at, speed
        self.steps: list[Step] = []
        self.walked, self.view = 0.0, 0

    def frames_to(self, x: float, z: float) -> int:
        """Return how many frames the way to a place takes."""
        way = x - self.at[0], z - self.at[1]
        return max(round(_length(way) / self.speed * FPS), 4)

    def go(self, x: float, z: float) -> None:
        """Walk to a place."""
        way, frames = (x - self.at[0], z - self.at[1]), self.frames_to(x, z)
        self.view = facing(*way)
        self.steps.append(Step(self.time, frames, self.at, way, self.speed, self.walked, self.view))
        self.time += frames
        self.at = (x, z)
        self.walked += _length(way)

    def wait(self, dice: Dice, frames: int) -> None:
        """Stand, perhaps half turned."""
        view = (self.view + dice.pick((-1, 0, 0, 1))) % 8
        self.steps.append(Step(self.time, frames, self.at, (0.0, 0.0), 0.0, self.walked, view))
        self.time += frames


def facing(right: float, away: float) -> int:
    """Return the eighth of a turn that a way points to."""
    flat = 0.4142  # tangent of a sixteenth of a turn
    if abs(away) <= flat * abs(right):
        return 0 if right >= 0 else 4
    if abs(right) <= flat * abs(away):
        return 2 if away > 0 else 6
    if right > 0:
        return 1 if away > 0 else 7
    return 3 if away > 0 else 5


def statues(seed: int, stage: Stage, count: int) -> list[Pose]:
    """Return figures made and dressed like people, caught in mid-stride like people, that never move.

    They stand as far away, face where and stride as often as people do who are to be seen: one picture must not tell
    who is a statue.
    """
    dice, found = Dice(seed, DECOYS), []
    for number in range(count):
        z = dice.uniform(NEAR, stage.far)
        share = (number + dice.uniform(0.15, 0.85)) / count
        x = (1.9 * share - 0.95) * stage.geometry.edge(z)
        view = dice.pick((0, 4, 1, 3, 5, 7), (24, 24, 1, 1, 1, 1))
        pose = dice.below(STRIDE) if dice.chance(0.88) else POSES - STANDING + dice.below(STANDING)
        found.append(Pose(look(dice, stage.drab), x, z, view, pose, 0.0, 0, 0))
    return found
