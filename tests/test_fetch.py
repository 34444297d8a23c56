"""Archives: from a path or a server, unpacked whole, and never outside their folder."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from datasets.errors import DataError
from stages.fetch import obtain, unpack

JPEG = b"\xff\xd8" + b"picture" * 50 + b"\xff\xd9"
PATTERN = r"(?:.*/)?(?P<to>images/[^/]+\.jpg)"


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_wanted_members_are_unpacked(tmp_path, make):
    members = {"top/images/a.jpg": JPEG, "images/b.jpg": JPEG + b"\0\0", "images/notes.txt": b"x", "other/c.jpg": JPEG}
    archive = make(tmp_path / "archive", members)
    assert unpack(archive, PATTERN, tmp_path / "out") == 2
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"images/a.jpg": JPEG, "images/b.jpg": JPEG + b"\0\0"}


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../evil.jpg", "images/../../evil.jpg", "/tmp/evil.jpg", "..\\evil.jpg"])
def test_a_member_that_points_outside_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"images/a.jpg": JPEG, name: JPEG})
    with pytest.raises(DataError, match="outside"):
        unpack(archive, PATTERN, tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_links_and_devices_are_not_made(tmp_path):
    members = {
        "images/link.jpg": (tarfile.SYMTYPE, "/etc/passwd"),
        "images/hard.jpg": (tarfile.LNKTYPE, "images/link.jpg"),
        "images/pipe.jpg": (tarfile.FIFOTYPE, ""),
        "images/a.jpg": JPEG,
    }
    assert unpack(make_tar(tmp_path / "a.tar.gz", members), PATTERN, tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out/images").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_truncated_archive_is_named(tmp_path, make, share):
    content = {f"images/{i}.jpg": b"\xff\xd8" + os.urandom(5000) + b"\xff\xd9" for i in range(20)}
    archive = make(tmp_path / "archive", content)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="archive is damaged or cut off"):
        unpack(archive, PATTERN, tmp_path / "out")


def test_a_changed_byte_is_found(tmp_path):
    archive = make_zip(tmp_path / "archive", {"images/a.jpg": JPEG})
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_between_two_members_is_found(tmp_path, mode):
    archive = make_tar(tmp_path / "archive", {f"images/{i}.jpg": b"x" * 512 for i in range(4)}, "w")
    cut = archive.read_bytes()[: 2 * 1024]  # a header and a block for each member
    archive.write_bytes(cut if mode == "w" else gzip.compress(cut))
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack(archive, PATTERN, tmp_path / "out")


@pytest.mark.parametrize("place", [1024 + 100, 1024 + 600])  # in a member's header, in its content
def test_a_changed_byte_in_a_gzipped_tar_is_found(tmp_path, place):
    plain = make_tar(tmp_path / "plain", {f"images/{i}.jpg": b"x" * 512 for i in range(4)}, "w").read_bytes()
    whole = bytearray(gzip.compress(plain, compresslevel=0))
    whole[15 + place] ^= 1  # uncompressed blocks: 10 bytes of gzip header and 5 of block header come first
    (tmp_path / "archive").write_bytes(whole)
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack(tmp_path / "archive", PATTERN, tmp_path / "out")


def test_the_wrong_archive_says_so(tmp_path):
    with pytest.raises(DataError, match="is it the right archive"):
        unpack(make_tar(tmp_path / "a.tar.gz", {"readme": b"x"}), PATTERN, tmp_path / "out")


def test_an_interrupted_unpacking_goes_on(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {f"images/{i}.jpg": JPEG for i in range(5)})

    def stop(*_):
        if len(list(tmp_path.glob("out/images/*.jpg"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, PATTERN, tmp_path / "out", stop)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert unpack(archive, PATTERN, tmp_path / "out") == 5
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert len(before) == 3 and before.items() <= after.items()


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; honours Range; `cut` ends the first replies early."""

    cut = 0
    requests: list = []

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range")
        Server.requests.append(asked)
        if self.headers.get("If-Range") not in (None, f'"{hashlib.sha256(content).hexdigest()}"'):
            asked = None  # another file than the one that was begun
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        end = len(content)
        if Server.cut:
            Server.cut -= 1
            end = start + (end - start) // 2
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "site").mkdir()
    handler = functools.partial(Server, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        Server.cut, Server.requests = 0, []
        yield tmp_path / "site", f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_download_is_kept(server, tmp_path):
    site, address = server
    (site / "a b.tar").write_bytes(b"content" * 1000)
    for _ in range(2):
        path = obtain(f"{address}/a%20b.tar", tmp_path / "downloads")
        assert path.name == "a b.tar" and path.read_bytes() == b"content" * 1000
    assert len(Server.requests) == 1


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    site, address = server
    (site / "a.tar").write_bytes(os.urandom(4 << 20))
    Server.cut = 1
    with pytest.raises(DataError, match="run again to go on"):
        obtain(f"{address}/a.tar", tmp_path / "downloads")
    assert not list((tmp_path / "downloads").rglob("a.tar"))
    assert obtain(f"{address}/a.tar", tmp_path / "downloads").read_bytes() == (site / "a.tar").read_bytes()
    first, second = Server.requests
    assert first is None and second.startswith("bytes=")
    assert 1 << 20 <= int(second[6:-1]) <= 2 << 20  # of the 2 MiB that came, at most the last piece was lost


def test_a_file_that_changed_on_the_server_is_fetched_from_the_start(server, tmp_path):
    site, address = server
    (site / "a.tar").write_bytes(b"A" * (4 << 20))
    Server.cut = 1
    with pytest.raises(DataError):
        obtain(f"{address}/a.tar", tmp_path / "downloads")
    (site / "a.tar").write_bytes(b"B" * (4 << 20))
    assert obtain(f"{address}/a.tar", tmp_path / "downloads").read_bytes() == b"B" * (4 << 20)


def test_files_of_the_same_name_are_kept_apart(server, tmp_path):
    site, address = server
    for name in ("one", "two"):
        (site / name).mkdir()
        (site / name / "best_model.t7").write_text(name)
    paths = [obtain(f"{address}/{name}/best_model.t7", tmp_path / "downloads") for name in ("one", "two")]
    assert [path.read_text() for path in paths] == ["one", "two"]


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="could not be fetched"):
        obtain("http://127.0.0.1:9/a.tar", tmp_path)


def test_paths(tmp_path):
    (tmp_path / "a.tar").touch()
    assert obtain(f"file://{tmp_path}/a.tar", tmp_path) == tmp_path / "a.tar"
    with pytest.raises(DataError, match=r"b\.tar is not there"):
        obtain(str(tmp_path / "b.tar"), tmp_path)
