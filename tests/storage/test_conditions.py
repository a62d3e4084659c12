"""Object stores that answer a put on a condition in their own ways."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import ncsim
from ncsim.storage.files import open_storage
from ncsim.storage.run_folder import RunFolder
from tests.storage.test_run_folder import some_records

#: A key in the list of a bucket.
LISTED = "<Contents><Key>{key}</Key><LastModified>2026-11-30T06:00:00.000Z</LastModified><Size>1</Size></Contents>"


class Keys(BaseHTTPRequestHandler):
    """What an S3 store does of reading and writing a key; `server.answer` is to a put on a condition."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        with self.server.counting:
            self.server.gets.append((self.command, self.path))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(self.server.seconds)
        with self.server.counting:
            self.server.now -= 1
        self._get()

    def _get(self):
        held, asked = self.server.held.get(self.path), self.headers.get("Range")
        if held is not None and asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            if first == "" and not self.server.from_end:
                self._send(501, b"<Error><Code>NotImplemented</Code><Message>no suffix ranges</Message></Error>")
            elif not held:
                self._send(416, b"<Error><Code>InvalidRange</Code><Message>not satisfiable</Message></Error>")
            else:
                begin = int(first) if first else max(len(held) - int(last), 0)
                end = min(int(last) + 1, len(held)) if first else len(held)
                self._send(206, held[begin:end], f"bytes {begin}-{end - 1}/{len(held)}")
        elif held is not None:
            self._send(200, held)
        elif "list-type" in self.path:
            keys = "".join(LISTED.format(key=key.removeprefix("/bucket/")) for key in self.server.held)
            self._send(200, f"<ListBucketResult>{keys}<IsTruncated>false</IsTruncated></ListBucketResult>".encode())
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    do_HEAD = do_GET

    def do_POST(self):
        self.server.held.clear()
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, b"<DeleteResult><Deleted><Key>run/parts/one</Key></Deleted></DeleteResult>")

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

    def _send(self, status, content, part=""):
        held = self.server.held.get(self.path, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if part:
            self.send_header("Content-Range", part)
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 06:00:00 GMT")
        if self.server.tags or self.command == "PUT":
            self.send_header("ETag", f'"{hashlib.md5(held).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD" and content and self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    running.held, running.puts, running.answer, running.tags = {}, [], None, True
    running.gets, running.from_end, running.seconds = [], True, 0.0
    running.breaks = 0
    running.counting, running.now, running.most = threading.Lock(), 0, 0
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


@pytest.mark.parametrize("from_end", [True, False])
def test_the_end_of_a_file_is_one_request_where_a_store_counts_from_it(server, from_end):
    files = open_storage("s3://bucket/run")
    for name, content in (("empty", b""), ("short", b"ab"), ("long", b"0123456789")):
        server.held[f"/bucket/run/{name}"] = content
    server.from_end = from_end
    assert [files.read_tail(name, 4) for name in ("long", "short", "empty")] == [b"6789", b"ab", b""]
    with pytest.raises(FileNotFoundError):
        files.read_tail("none", 4)
    if not from_end:  # 501 is asked for again, with pauses between: once, and not of each of ten thousand parts
        assert [(way, path.rpartition("/")[2]) for way, path in server.gets][-6:] == [
            ("HEAD", "long"), ("GET", "long"), ("HEAD", "short"), ("GET", "short"), ("HEAD", "empty"), ("HEAD", "none")
        ]  # fmt: skip
    if from_end:
        assert [path for _, path in server.gets] == [
            f"/bucket/run/{name}" for name in ("long", "short", "empty", "empty", "none")
        ]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (lambda files: files.names("parts"), ["parts/one"]),
        (lambda files: files.own_names(), ["parts/one"]),  # this server's list has all keys
        (lambda files: files.read("parts/one"), b"0123456789"),
        (lambda files: files.read_tail("parts/one", 4), b"6789"),
        (lambda files: files.remove("parts/one"), None),
    ],
    ids=["names", "own names", "read", "tail", "remove"],
)
def test_an_answer_that_ends_in_the_middle_is_asked_for_again(server, asked, given):
    """obstore asks again for a file, and not for a list or to remove: one connection that broke ended a run."""
    files = open_storage("s3://bucket/run")
    server.held["/bucket/run/parts/one"] = b"0123456789"
    server.breaks = 1
    assert asked(files) == given
    assert server.breaks == 0


def test_answers_that_always_end_in_the_middle_are_an_error(server):
    files = open_storage("s3://bucket/run")
    server.breaks = 100
    with pytest.raises(OSError, match="response body"):
        files.names("parts")


def test_azure_counts_from_the_beginning_alone(monkeypatch):
    """It is asked for the size, then, and once only whether it can."""
    import obstore
    from obstore.exceptions import NotSupportedError

    files, get, asked = open_storage("memory://azure/run"), obstore.get, []
    files.write("one", b"0123456789")

    def refusing(store, path, *, options=None):
        if options is not None:
            asked.append(options)
            raise NotSupportedError("Azure does not support suffix range requests")
        return get(store, path)

    monkeypatch.setattr(obstore, "get", refusing)
    assert [files.read_tail("one", size) for size in (4, 20)] == [b"6789", b"0123456789"]
    assert len(asked) == 1


def test_footers_of_parts_are_read_side_by_side(server):
    """One after the other, ten thousand parts of 20 ms each took minutes before anything was reported or trained."""
    config = ncsim.EnsembleConfig(hidden=2, members=40, steps=1)
    folder = RunFolder(open_storage("s3://bucket/run"), [config])
    for first in range(0, 40, 2):
        folder.write_part(config, some_records(first, 2))
    server.gets.clear()
    server.most, server.seconds = 0, 0.05
    names = [name.partition("/run/")[2] for name in server.held if name.endswith(".parquet")]
    folder.storage.names = lambda _: sorted(names)
    assert [part.first for part in folder.parts(config)] == list(range(0, 40, 2))
    assert len(server.gets) == 20
    assert server.most > 4
    broken = "/bucket/run/" + sorted(names)[7]
    server.held[broken] = server.held[broken][:-8] + b"12345678"
    with pytest.raises(ncsim.StoreError, match=r"members-0000000014-2\.parquet: is torn"):
        folder.parts(config)
