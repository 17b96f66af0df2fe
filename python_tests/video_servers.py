"""Servers on this machine that tests read video from: HTTP that hangs up, and RTSP."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler, int], None]) -> Iterator[str]:
    """Serve HTTP; `answer` gets each request and its number. Yields the address."""
    count = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, next(count))

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # the reader has hung up
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler: BaseHTTPRequestHandler, body: bytes, *, length: int | None = None) -> None:
    """Answer with a body: without a length it may go on for ever, with a larger one it breaks off."""
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
    handler.close_connection = True


@contextmanager
def rtsp_server(video: Path, hang_up_after: list[int | None]) -> Iterator[str]:
    """Serve an MPEG transport stream by RTSP over TCP, with no end known beforehand.

    Each connection that plays takes the next of `hang_up_after` and hangs up after so many bytes of the video
    (None: all of them); when the list is empty, connections are refused. Yields the address.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    data = video.read_bytes()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                _rtsp_session(connection, data, hang_up_after)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/door"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _rtsp_session(connection: socket.socket, data: bytes, hang_up_after: list[int | None]) -> None:
    """Answer one client until it has what it is given."""
    if not hang_up_after:
        return
    connection.settimeout(5)
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
    extra = {
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n",
    }
    requests = connection.makefile("rb")
    try:
        while line := requests.readline().decode():
            verb, header = line.split()[0], {}
            while (field := requests.readline().decode().strip()) != "":
                name, _, value = field.partition(":")
                header[name.lower()] = value.strip()
            body = sdp if verb == "DESCRIBE" else ""
            fields = f"CSeq: {header['cseq']}\r\n" + extra.get(verb, "Session: 7\r\n")
            connection.sendall(f"RTSP/1.0 200 OK\r\n{fields}\r\n{body}".encode())
            if verb == "PLAY":
                _play(connection, data[: hang_up_after.pop(0)])
                return
    except (OSError, ValueError, IndexError):  # the client has gone
        return


def _play(connection: socket.socket, data: bytes) -> None:
    """Send transport packets, seven in an RTP packet, interleaved with the control connection."""
    for number, start in enumerate(range(0, len(data), 7 * 188)):
        payload = data[start : start + 7 * 188]
        rtp = struct.pack(">BBHII", 0x80, 33, number % 65536, number * 3000, 1) + payload
        connection.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
