"""Object stores that answer a put on a condition in their own ways."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ncsim.storage.files import open_storage


class Keys(BaseHTTPRequestHandler):
    """What an S3 store does of reading and writing a key; `server.answer` is to a put on a condition."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path in self.server.held:
            self._send(200, self.server.held[self.path])
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    do_HEAD = do_GET

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
        self.server.puts.append(conditional)
        if conditional and self.server.answer:
            status, code, words = self.server.answer
            self._send(status, f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode())
        else:
            self.server.held[self.path] = content
            self._send(200, b"")

    def _send(self, status, content):
        held = self.server.held.get(self.path, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 06:00:00 GMT")
        if self.server.tags or self.command == "PUT":
            self.send_header("ETag", f'"{hashlib.md5(held).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    running.held, running.puts, running.answer, running.tags = {}, [], None, True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ((501, "NotImplemented", "A header you provided implies functionality that is not implemented"), True),
        ((400, "InvalidArgument", "If-Match is not supported"), True),
        (None, False),
    ],
)
def test_a_store_without_conditions_is_written_to_all_the_same(server, answer, tags):
    """No run in it could be given more members, or go on on another kind of machine."""
    files = open_storage("s3://bucket/run")
    files.write("config.json", b"1")
    server.answer, server.tags = answer, tags
    assert files.exchange("config.json", b"1", b"2")
    assert not files.exchange("config.json", b"1", b"3")
    assert files.read("config.json") == b"2"
    assert not server.puts[-1]


@pytest.mark.parametrize(
    "answer",
    [
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        (400, "InvalidArgument", "If-None-Match is not supported"),
    ],
)
def test_a_run_begins_in_a_store_without_conditions(server, answer):
    """Its config.json is made on the condition that none is there."""
    files = open_storage("s3://bucket/run")
    server.answer = answer
    assert files.create("config.json", b"1")
    assert not files.create("config.json", b"2")
    assert files.read("config.json") == b"1"
    server.answer = (403, "AccessDenied", "Access Denied")
    with pytest.raises(OSError, match="Access Denied"):
        files.create("recording.json", b"1")


def test_another_who_writes_at_the_same_moment_is_no_error(server):
    """Amazon's answer to the later of two puts on a condition: the change is made again from what is there then."""
    files = open_storage("s3://bucket/run")
    files.write("config.json", b"1")
    server.answer = (409, "ConditionalRequestConflict", "The conditional request cannot succeed")
    assert not files.exchange("config.json", b"1", b"2")
    assert files.read("config.json") == b"1"


def test_what_is_refused_for_another_reason_is_an_error(server):
    files = open_storage("s3://bucket/run")
    files.write("config.json", b"1")
    server.answer = (403, "AccessDenied", "Access Denied")
    with pytest.raises(OSError, match="Access Denied"):
        files.exchange("config.json", b"1", b"2")
    assert files.read("config.json") == b"1"
