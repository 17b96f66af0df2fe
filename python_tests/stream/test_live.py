"""Live sources: lost and found again, dropped or waited for, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from svm_ext.stream import live
from svm_ext.stream._decode import Decoder
from svm_ext.stream.live import LiveSource, Readers, open_address, open_camera
from svm_ext.stream.sources import Frame, Source, open_source
from video_kit import SIZE, noise, picture, walk, write_scene, write_video
from video_servers import http_server, rtsp_server, send

QUICK = (0.01, 0.02, 0.02)  # seconds between attempts


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while (left := [it for it in threading.enumerate() if it not in before and "reader" in it.name]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert left == []


class Ticking(Source):
    """A source whose frames the test lets go one by one."""

    def __init__(self, frames: int = 10, *, is_live: bool = True, name: str = "ticking") -> None:
        super().__init__(name, SIZE, 25.0, None if is_live else frames, live=is_live)
        self.frames = frames
        self.given = 0  # frames that the reader has taken
        self.allowed = threading.Semaphore(0)
        self.fails: Exception | None = None
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frames):
            while not self.allowed.acquire(timeout=0.01):
                if self.closing.is_set():
                    return
            yield Frame(picture([]), index / 25, index)
            self.given += 1
        if self.fails:
            raise self.fails

    def close(self) -> None:
        super().close()
        self.closed = True

    def let(self, frames: int) -> None:
        """Let so many frames come."""
        for _ in range(frames):
            self.allowed.release()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


# The policies


def test_latest_drops_what_nobody_took_and_counts_it() -> None:
    source = Ticking()
    with Readers({"a": source}, "latest") as readers:
        source.let(1)
        assert readers.next()["a"].index == 0
        source.let(5)
        wait_for(lambda: source.given == 6)
        assert readers.next()["a"].index == 5
        assert readers.dropped == 4
        source.let(4)
        wait_for(lambda: source.closed)
        assert readers.next()["a"].index == 9
        assert readers.dropped == 7
        assert readers.next() == {}
        assert readers.next() == {}


def test_all_makes_the_source_wait() -> None:
    source = Ticking(50)
    source.let(50)
    with Readers({"a": source}, "all") as readers:
        time.sleep(0.1)
        assert source.given <= 3  # two wait, the third cannot be put down
        assert [readers.next()["a"].index for _ in range(50)] == list(range(50))
        assert readers.next() == {}
        assert readers.dropped == 0


def test_a_file_never_loses_frames(tmp_path: Path) -> None:
    with Readers({"a": open_source(write_scene(tmp_path / "a.mp4", 40))}, "latest") as readers:
        time.sleep(0.1)
        assert [readers.next()["a"].index for _ in range(40)] == list(range(40))
        assert readers.dropped == 0


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="live: expected latest or all, got 'some'"):
        Readers({}, "some")


# Many sources


def test_files_go_in_step_until_the_shorter_ends(tmp_path: Path) -> None:
    sources = {name: open_source(write_scene(tmp_path / f"{name}.mp4", count)) for name, count in (("a", 4), ("b", 7))}
    with Readers(sources) as readers:
        steps = []
        while frames := readers.next():
            steps.append({name: frame.index for name, frame in frames.items()})
        assert steps == [{"a": k, "b": k} for k in range(4)] + [{"b": k} for k in range(4, 7)]
        assert set(readers.ended()) == {"a", "b"}


def test_a_live_source_does_not_hold_up_the_others() -> None:
    slow, fast = Ticking(name="slow"), Ticking(name="fast")
    with Readers({"slow": slow, "fast": fast}) as readers:
        for index in range(3):
            fast.let(1)
            assert {name: frame.index for name, frame in readers.next().items()} == {"fast": index}
        slow.let(1)
        assert list(readers.next()) == ["slow"]
        fast.let(1)
        slow.let(1)
        wait_for(lambda: fast.given == 4 and slow.given == 2)
        assert set(readers.next()) == {"slow", "fast"}


def test_a_file_is_waited_for_though_a_camera_has_frames() -> None:
    file, camera = Ticking(is_live=False, name="file"), Ticking(name="camera")
    with Readers({"file": file, "camera": camera}) as readers:
        camera.let(1)
        threading.Timer(0.1, file.let, [1]).start()
        assert set(readers.next()) == {"file", "camera"}


def test_no_sources_end_at_once() -> None:
    with Readers({}) as readers:
        assert readers.next() == {}


def test_an_error_of_a_source_is_kept_and_the_frames_before_it_come() -> None:
    source, other = Ticking(2), Ticking(4)
    source.fails = ValueError("the size has changed")
    source.let(2)
    other.let(4)
    with Readers({"bad": source, "good": other}, "all") as readers:
        seen: dict[str, int] = {"bad": 0, "good": 0}
        while frames := readers.next():
            for name in frames:
                seen[name] += 1
        assert seen == {"bad": 2, "good": 4}
        assert [str(error) for error in readers.errors()] == ["the size has changed"]


def test_an_error_of_a_strange_kind_is_kept_too() -> None:
    source = Ticking(0)
    source.fails = MemoryError("none left")
    with Readers({"a": source}) as readers:
        assert readers.next() == {}
        assert isinstance(readers.errors()[0], MemoryError)


def test_close_ends_readers_that_wait_for_a_frame_or_for_room() -> None:
    waits_for_frame, waits_for_room = Ticking(), Ticking(50, is_live=False)
    waits_for_room.let(50)
    readers = Readers({"a": waits_for_frame, "b": waits_for_room}, "all")
    time.sleep(0.05)
    start = time.monotonic()
    readers.close()
    readers.close()
    assert time.monotonic() - start < 1
    assert waits_for_frame.closed
    assert waits_for_room.closed


# Addresses


def test_a_video_on_a_server_is_read_like_a_file(tmp_path: Path) -> None:
    body = write_scene(tmp_path / "a.mp4", 30, movflags="faststart").read_bytes()
    with http_server(lambda handler, _: send(handler, body, length=len(body))) as address:
        with open_source(f"{address}/yard.mp4?key=7") as source:
            assert (source.name, source.size, source.live, source.length) == ("yard", SIZE, False, 30)
            frames = list(source)
            assert source.problem is None
        assert [frame.index for frame in frames] == list(range(30))
        assert [frame.time for frame in frames] == pytest.approx([k / 25 for k in range(30)], abs=1e-3)


def test_a_video_that_breaks_off_goes_on_where_it_was_lost(tmp_path: Path) -> None:
    body = write_video(tmp_path / "a.mp4", noise(40), movflags="faststart", g="5").read_bytes()

    def answer(handler: object, number: int) -> None:
        send(handler, body if number else body[: len(body) // 2], length=len(body))

    with http_server(answer) as address, open_address(f"{address}/a.mp4", 5, QUICK) as source:
        frames = list(source)
        assert source.reconnected == 1
        assert source.problem is None
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([k / 25 for k in range(40)], abs=1e-3)
    for frame, image in zip(frames, noise(40), strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 40  # noise again, but the same noise


def test_a_stream_without_end_is_found_again_and_its_clock_goes_on(tmp_path: Path) -> None:
    body = write_scene(tmp_path / "a.ts", 12).read_bytes()

    def answer(handler: object, number: int) -> None:
        if number < 3:
            send(handler, body)
        else:
            handler.send_error(404)

    with http_server(answer) as address, open_address(f"{address}/live", 5, QUICK) as source:
        assert source.live
        assert source.length is None
        frames = list(source)
        assert source.reconnected == 2
        assert "lost after 36 frames" in source.problem
        assert "3 attempts" in source.problem
        assert "\n" not in source.problem
    assert [frame.index for frame in frames] == list(range(36))
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert np.diff(times)[[11, 23]].min() >= QUICK[0]  # a gap is as long as it was


def test_a_stream_in_another_size_is_an_error(tmp_path: Path) -> None:
    bodies = [write_scene(tmp_path / f"{k}.ts", 8, size=size).read_bytes() for k, size in enumerate([SIZE, (192, 96)])]
    with http_server(lambda handler, number: send(handler, bodies[number % 2])) as address:
        source = open_address(f"{address}/live", 5, QUICK)
        frames = []
        with pytest.raises(ValueError, match="expected 160x96 throughout, got 192x96 when live came back"):
            frames.extend(source)
        assert len(frames) == 8


def test_a_file_that_is_cut_on_the_server_ends(tmp_path: Path) -> None:
    """Each new connection brings the same frames again: that is no progress, and must not go on for ever."""
    whole = write_video(tmp_path / "a.mp4", noise(40), movflags="faststart", g="5").read_bytes()
    body = whole[: len(whole) // 2]
    with (
        http_server(lambda handler, _: send(handler, body, length=len(body))) as address,
        open_address(f"{address}/a.mp4", 5, QUICK) as source,
    ):
        frames = list(source)
        assert 10 < len(frames) < 30
        assert "cut short" in source.problem


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    body = write_video(tmp_path / "a.ts", noise(20)).read_bytes()
    quiet = threading.Event()

    def answer(handler: object, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        if number == 0:
            handler.wfile.write(body)
            handler.wfile.flush()
        quiet.wait(5)

    start = time.monotonic()
    with http_server(answer) as address, open_address(f"{address}/live", 0.5, (0.01, 0.01)) as source:
        frames = list(source)
        quiet.set()
        assert len(frames) >= 15
        assert "lost after" in source.problem
    assert time.monotonic() - start < 5


def test_a_reader_that_waits_for_a_silent_server_is_left_to_end_by_itself(tmp_path: Path) -> None:
    body, quiet = write_video(tmp_path / "a.ts", noise(20)).read_bytes(), threading.Event()

    def answer(handler: object, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
        quiet.wait(10)

    with http_server(answer) as address:
        source = open_address(f"{address}/live", 1, QUICK)
        readers = Readers({"a": source}, "all")
        for _ in range(15):
            readers.next()
        time.sleep(0.1)
        start = time.monotonic()
        readers.close()
        assert time.monotonic() - start < 2
        assert source.problem is None
        quiet.set()


def test_closing_ends_the_wait_between_attempts(tmp_path: Path) -> None:
    body = write_scene(tmp_path / "a.ts", 6).read_bytes()
    with http_server(
        lambda handler, number: send(handler, body) if number == 0 else handler.send_error(404)
    ) as address:
        source = open_address(f"{address}/live", 5, (60.0,))
        with Readers({"a": source}, "all") as readers:
            for _ in range(6):
                readers.next()
            start = time.monotonic()
        assert time.monotonic() - start < 1
        assert source.problem is None


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_nobody_there_is_told_in_one_line(scheme: str) -> None:
    with pytest.raises(OSError, match=r"source: expected a video, got .*Connection refused") as error:
        open_source(f"{scheme}://user:secret@127.0.0.1:1/door")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_not_found_on_the_server_is_told() -> None:
    with (
        http_server(lambda handler, _: handler.send_error(404)) as address,
        pytest.raises((OSError, ValueError), match="404"),
    ):
        open_source(f"{address}/none.mp4")


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises((OSError, ValueError), match="source: expected a video, got gopher://door"):
        open_source("gopher://door")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://user:pass@10.0.0.7:554/door", "door"),
        ("http://host/videos/street.mp4?token=a/b", "street"),
        ("rtsp://10.0.0.7", "10.0.0.7"),
        ("rtsp://10.0.0.7:554/", "10.0.0.7_554"),
        ("http://host/a%20b/c d.mp4", "c_d"),
    ],
)
def test_files_can_be_named_after_an_address(address: str, name: str) -> None:
    assert live._name_of(address) == name


def test_rtsp(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", walk(60))
    with rtsp_server(path, [None]) as address, open_address(address, 3, QUICK) as source:
        assert source.live
        frames = list(source)
        assert source.name == "door"
        assert "lost after" in source.problem
    assert 40 <= len(frames) <= 60
    assert np.allclose(np.diff([frame.time for frame in frames]), 0.04, atol=5e-3)
    assert frames[0].image.shape == (SIZE[1], SIZE[0], 3)


def test_rtsp_that_hangs_up_is_found_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", noise(40), g="5")
    half = path.stat().st_size // 2 // (7 * 188) * 7 * 188
    with rtsp_server(path, [half, None]) as address, open_address(address, 3, QUICK) as source:
        frames = list(source)
        assert source.reconnected == 1
    assert len(frames) > 45
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


# Cameras


def test_no_such_camera() -> None:
    with pytest.raises(FileNotFoundError, match="source: expected a camera, got 97, but there is no /dev/video97"):
        open_source(97)
    with pytest.raises(FileNotFoundError, match="got 97"):
        open_source("97")
    with pytest.raises(FileNotFoundError, match="got 97"):
        open_source("/dev/video97")


def test_the_cameras_that_there_are_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Devices(type(tmp_path)):
        def __new__(cls, path: str) -> Path:
            return Path(str(path).replace("/dev", str(tmp_path)))

    for number in (2, 4):
        (tmp_path / f"video{number}").touch()
    monkeypatch.setattr(live, "Path", Devices)
    with pytest.raises(FileNotFoundError, match="choose from 2, 4"):
        open_camera(0)


def test_a_device_that_is_lost_is_opened_again() -> None:
    """A test picture generator in place of a camera: it ends, and it can be opened anew."""
    connections = []

    def connect() -> Decoder:
        if len(connections) == 3:
            raise OSError("it was unplugged")
        connections.append(Decoder("testsrc=size=64x48:rate=25:duration=0.4", "camera0", live=True, format="lavfi"))
        return connections[-1]

    source = LiveSource("camera0", connect, QUICK)
    assert (source.live, source.size, source.fps) == (True, (64, 48), 25)
    frames = list(source)
    assert len(frames) == 30
    assert source.reconnected == 2
    assert "it was unplugged" in source.problem
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times == sorted(set(times))


def test_a_live_source_can_be_given_up_at_any_time() -> None:
    source = LiveSource("camera0", lambda: Decoder("testsrc=size=64x48:rate=25", "c", live=True, format="lavfi"), QUICK)
    frames = iter(source)
    assert [next(frames).index for _ in range(5)] == list(range(5))
    source.closing.set()
    assert list(frames) == []
    assert source.problem is None
