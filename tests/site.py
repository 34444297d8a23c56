"""A web server on this machine whose answers are chosen by a test."""

import contextlib
import hashlib
import http.server
import os
import threading
from dataclasses import dataclass, field

os.environ["NO_PROXY"] = "127.0.0.1"


@dataclass
class Answer:
    """How the server answers one request; the default values describe a correct answer."""

    status: int = 200
    sent: float = 1.0  # fraction of the bytes that is sent before the connection breaks
    ranges: bool = True  # whether a requested range is sent instead of the whole file
    length: int = 0  # number of bytes by which Content-Length is too large
    named: bool = True  # whether the answer has an ETag
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """The state of the server.

    files: path -> content; answers: how to answer the next requests, in order; requests: (path, Range header) of all requests.
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str | None]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        site.requests.append((self.path, self.headers.get("Range")))
        answer = site.answers.pop(0) if site.answers else Answer()
        if self.path not in site.files and answer.body is None and answer.status == 200:
            answer = Answer(status=404)
        content = site.files.get(self.path, b"") if answer.body is None else answer.body
        name = f'"{hashlib.sha256(content).hexdigest()}"'
        start, status, headers = 0, answer.status, dict(answer.headers)
        asked = self.headers.get("Range") if answer.ranges and status == 200 else None
        if asked and self.headers.get("If-Range") == name:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(content) else 416
            end = f"{start}-{len(content) - 1}" if status == 206 else "*"
            headers["Content-Range"] = f"bytes {end}/{len(content)}"
        if answer.named and status in (200, 206):
            headers["ETag"] = name
        body = content[start:] if status in (200, 206) else b""
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body) + answer.length)} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client may close the connection early
            self.wfile.write(body[: int(answer.sent * len(body))])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    """Provide a Site that answers requests until the with block ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.site = Site(server.server_port)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.site
        server.shutdown()
