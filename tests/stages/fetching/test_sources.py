"""Sources: paths, and addresses on servers that break connections, send wrong headers, change files, or require a browser."""

import hashlib
import inspect
import itertools
import json
import os
import random
import re
import shutil
import socket
import sys
import types
from collections import namedtuple

import gdown
import pytest

from datasets.errors import DataError
from stages.fetching import download
from stages.fetching.sources import download_of, obtain, read_source, record_of
from tests.site import Answer, serving

CONTENT = os.urandom(3 << 20)
OTHER = os.urandom(3 << 20)
HTML = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    with serving() as site:
        site.files["/a.tar"] = CONTENT
        yield site


@pytest.fixture
def waits(monkeypatch):
    """A list of the seconds for which the download would have waited; the test does not wait."""
    found = []
    monkeypatch.setattr(download.time, "sleep", found.append)
    return found


def test_a_download_is_kept_and_checked(site, tmp_path):
    site.files = {"/a%20b.tar": CONTENT}
    for _ in range(2):
        path = obtain(f"{site.address}/a%20b.tar", tmp_path)
        assert path.name == "a b.tar" and path.read_bytes() == CONTENT
    assert len(site.requests) == 1
    assert record_of(path)["sha256"] == digest(CONTENT) and record_of(path)["bytes"] == len(CONTENT)
    assert {p.name for p in path.parent.iterdir()} == {"a b.tar", ".record.json", ".lock"}


def test_progress_is_reported_in_bytes(site, tmp_path):
    calls = []
    obtain(f"{site.address}/a.tar", tmp_path, lambda *args, **more: calls.append((*args, more["unit"])))
    fetching = [(done, total) for done, total, text, unit in calls if text == "fetching a.tar" and unit == "B"]
    assert fetching[-1] == (len(CONTENT), len(CONTENT)) and len(fetching) > 5
    assert all(a < b for a, b in itertools.pairwise(fetching))


def test_broken_downloads_are_resumed(site, tmp_path, waits):
    site.answers = [Answer(sent=0.5), Answer(sent=0.5), Answer(sent=0.5), Answer(sent=0.5), Answer(sent=0)]
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for _, asked in site.requests[1:]]
    # Each attempt receives half of the missing bytes; the last block before the connection breaks may be lost.
    for i, start in enumerate(starts[:4]):
        whole = len(CONTENT) * (1 - 0.5 ** (i + 1))
        assert whole - (i + 1) * download.PIECE <= start <= whole
    assert starts[4] == starts[3]
    # These are more waits than WAITS has: after an attempt that received data, the first wait is used again.
    assert waits == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("number", "tries"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 4)])
def test_a_host_that_does_not_exist_is_tried_once(tmp_path, monkeypatch, waits, number, tries):
    """The download is tried again only if the DNS server cannot be reached, which may be temporary."""
    monkeypatch.setattr(download, "WAITS", (1, 2, 4))
    asked = []

    def lookup(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(number, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(DataError) as error:
        obtain("http://no.such.host/a.tar", tmp_path)
    assert asked == ["no.such.host"] * tries and len(waits) == tries - 1
    assert ("there is no host called no.such.host. Correct the address" in str(error.value)) == (tries == 1)


def test_retries_end_if_no_data_arrives(site, tmp_path, monkeypatch, waits):
    monkeypatch.setattr(download, "WAITS", (1, 2, 4))
    site.answers = [Answer(sent=0.5), *[Answer(sent=0)] * 3]
    with pytest.raises(DataError, match=r"a\.tar could not be fetched: .* Run again to resume \(2 MB have arrived"):
        obtain(f"{site.address}/a.tar", tmp_path)
    assert waits == [1, 2, 4] and not list(tmp_path.rglob("a.tar"))
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert int(site.requests[-1][1][6:-1]) >= len(CONTENT) // 2 - download.PIECE  # the next run resumes the download


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_ignores_range(site, tmp_path, named):
    site.answers = [Answer(sent=0.5, named=named), Answer(ranges=False)]
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert (site.requests[1][1] is not None) == named  # without an ETag, no range is requested


def test_a_server_that_resumes_at_a_wrong_position(site, tmp_path):
    wrong = {"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"}
    site.answers = [Answer(sent=0.5), Answer(status=206, headers=wrong)]
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert site.requests[2][1] is None


def test_a_file_that_changes_between_two_attempts(site, tmp_path, monkeypatch):
    site.answers = [Answer(sent=0.5), Answer(status=503), Answer(sent=0.7)]
    monkeypatch.setattr(download.time, "sleep", lambda _: site.files.update({"/a.tar": OTHER}))
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == OTHER


def test_a_changed_file_behind_a_server_that_ignores_if_range(site, tmp_path):
    def other_half():
        return Answer(
            status=206, body=OTHER,
            headers={"Content-Range": f"bytes {size}-{len(OTHER) - 1}/{len(OTHER)}", "ETag": '"other"'},
        )  # fmt: skip

    site.answers = [Answer(sent=0.5), *[Answer(sent=0)] * 3]
    with pytest.raises(DataError):
        obtain(f"{site.address}/a.tar", tmp_path)
    size = next(tmp_path.rglob("*.part")).stat().st_size
    site.files["/a.tar"] = OTHER
    site.answers = [other_half()]
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == OTHER


def test_killed_after_the_last_byte(site, tmp_path):
    site.answers = [Answer(length=100), *[Answer(status=503)] * 3]  # all bytes have arrived, but the server announced more
    with pytest.raises(DataError):
        obtain(f"{site.address}/a.tar", tmp_path)
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert site.requests[-1][1] == f"bytes={len(CONTENT)}-"


def test_a_length_that_is_too_long(site, tmp_path):
    site.answers = [Answer(length=5, ranges=False)] * 9
    with pytest.raises(DataError, match="could not be fetched"):
        obtain(f"{site.address}/a.tar", tmp_path)
    assert not list(tmp_path.rglob("a.tar"))


def test_a_length_that_is_too_short_does_not_pass_a_digest(site, tmp_path):
    """HTTP does not show that bytes are missing; only a digest shows it, or else an error when the archive is unpacked."""
    site.answers = [Answer(length=-1000)]
    with pytest.raises(DataError, match=f"not {digest(CONTENT)} as the settings say"):
        obtain(f"{site.address}/a.tar#sha256={digest(CONTENT)}", tmp_path)


def test_a_digest_known_by_its_beginning(site, tmp_path):
    with pytest.raises(DataError, match="not 00000000 as the settings say"):
        obtain(f"{site.address}/a.tar#sha256=00000000", tmp_path)
    assert obtain(f"{site.address}/a.tar#sha256={digest(CONTENT)[:8]}", tmp_path).read_bytes() == CONTENT


def test_redirects(site, tmp_path):
    site.answers = [Answer(status=302, headers={"Location": "/a.tar"})]
    assert obtain(f"{site.address}/elsewhere", tmp_path).read_bytes() == CONTENT
    site.answers = [Answer(status=302, headers={"Location": "/circle"})] * 40
    with pytest.raises(DataError, match="Exceeded 30 redirects"):
        obtain(f"{site.address}/circle", tmp_path)


def test_permanent_errors_are_not_retried(site, tmp_path):
    for status in (403, 404, 410):
        site.answers, site.requests = [Answer(status=status)], []
        with pytest.raises(DataError, match=f"the server answered {status} .*; correct the address in the settings"):
            obtain(f"{site.address}/a.tar", tmp_path)
        assert len(site.requests) == 1


def test_temporary_errors_are_retried_after_the_requested_wait(site, tmp_path, waits):
    site.answers = [Answer(status=500), *[Answer(status=429, headers={"Retry-After": asked}) for asked in ("7", "9999")]]
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert waits == [0, 7, download.LONGEST_WAIT]


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_web_page_is_refused(site, tmp_path, headers):
    site.files["/PennAction"] = HTML
    site.answers = [Answer(headers=headers)]
    with pytest.raises(DataError, match=r"/PennAction is a web page, not a file.*in a browser.*path in the settings"):
        obtain(f"{site.address}/PennAction", tmp_path)
    assert len(site.requests) == 1 and not list(tmp_path.rglob("PennAction"))


def test_mirrors_are_tried_in_order_and_each_failure_is_reported(site, tmp_path, caplog):
    source = f"http://127.0.0.1:9/a.tar {site.address}/gone.tar {site.address}/a.tar"
    path = obtain(source, tmp_path)
    assert path.read_bytes() == CONTENT and record_of(path)["address"] == f"{site.address}/a.tar"
    assert "Connection refused" in caplog.text and "404" in caplog.text
    with pytest.raises(DataError, match=r"(?s)Connection refused.*gone\.tar.*404"):
        obtain(f"http://127.0.0.1:9/b.tar\n{site.address}/gone.tar", tmp_path)


def test_a_mirror_with_another_file_is_passed_over(site, tmp_path):
    site.files["/old.tar"] = OTHER
    source = f"{site.address}/old.tar#sha256={digest(CONTENT)} {site.address}/a.tar"
    assert obtain(source, tmp_path).read_bytes() == CONTENT
    assert download_of(source, tmp_path).with_name("old.tar.wrong").read_bytes() == OTHER


def test_the_first_digest_of_an_address_is_remembered_until_another_is_accepted(site, tmp_path):
    address = f"{site.address}/a.tar"
    path = obtain(address, tmp_path)
    path.unlink()  # the user deletes the download to free space
    site.files["/a.tar"] = OTHER
    with pytest.raises(DataError, match=f"sha256 {digest(OTHER)}, not {digest(CONTENT)} as on .*a.tar#sha256={digest(OTHER)}$"):
        obtain(address, tmp_path)
    assert not path.exists()
    requests = len(site.requests)
    assert obtain(f"{address}#sha256={digest(OTHER)}", tmp_path).read_bytes() == OTHER
    assert len(site.requests) == requests  # the refused file was kept, and is used now
    assert record_of(path)["sha256"] == digest(OTHER)


def test_a_download_that_was_damaged_on_the_disk_is_fetched_again(site, tmp_path, caplog):
    path = obtain(f"{site.address}/a.tar", tmp_path)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert obtain(f"{site.address}/a.tar", tmp_path).read_bytes() == CONTENT
    assert "was moved to" in caplog.text and "fetched again" in caplog.text


def test_a_damaged_record_counts_as_none(site, tmp_path):
    path = obtain(f"{site.address}/a.tar", tmp_path)
    for text in ("{", "[]", '{"sha256": 1}'):
        (path.parent / ".record.json").write_text(text)
        assert obtain(f"{site.address}/a.tar", tmp_path) == path
        assert json.loads((path.parent / ".record.json").read_text())["sha256"] == digest(CONTENT)


@pytest.mark.parametrize(("free", "fits"), [(6, True), (5, False)])
def test_disk_space_is_checked_before_writing(site, tmp_path, monkeypatch, free, fits):
    """The download needs 3 MiB, and its unpacked contents need another 3 MiB."""
    usage = namedtuple("usage", "total used free")(0, 0, free << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    if fits:
        assert obtain(f"{site.address}/a.tar", tmp_path, unpacked=True).exists()
        return
    with pytest.raises(DataError, match=r"Fetching http\S+ needs 6 MB in .*, where 5 MB are free"):
        obtain(f"{site.address}/a.tar {site.address}/a.tar", tmp_path, unpacked=True)
    assert len(site.requests) == 1 and not any(path.stat().st_size for path in tmp_path.rglob("*.part"))


def test_files_of_the_same_name_are_kept_apart(site, tmp_path):
    site.files = {f"/{name}/best_model.t7": name.encode() for name in ("one", "two")}
    paths = [obtain(f"{site.address}/{name}/best_model.t7", tmp_path) for name in ("one", "two")]
    assert [path.read_text() for path in paths] == ["one", "two"]


@pytest.mark.parametrize(
    "name", ["..", ".lock", ".record.json", "archive1.part2.zip", "%2e%2e%2f%2e%2e%2fx", "a" * 300, "a%00%0a"]
)
def test_names_in_addresses_stay_in_the_folder(site, tmp_path, name):
    site.answers = [Answer(body=CONTENT)]
    path = obtain(f"{site.address}/{name}", tmp_path / "downloads")
    assert path.read_bytes() == CONTENT and path.parent.parent == tmp_path / "downloads"
    assert {p.name for p in path.parent.iterdir()} == {path.name, ".record.json", ".lock"}
    assert record_of(path)["sha256"] == digest(CONTENT)


@pytest.fixture
def drive(site, monkeypatch):
    """The test server acts as Google Drive: gdown itself runs, but without the confirmation pages of Google."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0)  # gdown waits for this number of seconds between two attempts
    monkeypatch.setattr(download, "GOOGLE_DRIVE", ("127.0.0.1",))
    return site


def test_google_drive(drive, tmp_path):
    drive.answers = [Answer(sent=0.5)]
    for _ in range(2):
        path = obtain(f"{drive.address}/a.tar", tmp_path)
        assert path.read_bytes() == CONTENT and record_of(path)["sha256"] == digest(CONTENT)
    # The second request resumed the download; the second call of `obtain` needed no request.
    assert [asked is None for _, asked in drive.requests] == [True, False]
    assert {p.name for p in path.parent.iterdir()} == {"a.tar", ".record.json", ".lock"}


def test_google_drive_refuses(drive, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"Google Drive \(404 .*in a browser and give its path"):
        obtain(f"{drive.address}/gone", tmp_path)
    drive.files["/page"] = HTML
    with pytest.raises(DataError, match="web page, not a file"):
        obtain(f"{drive.address}/page", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(1000))
    with pytest.raises(DataError, match="needs 3 MB"):
        obtain(f"{drive.address}/a.tar", tmp_path)


@pytest.mark.parametrize("address", ["https://drive.google.com/uc?id=1uGX", "https://drive.google.com/file/d/1uGX/view"])
def test_addresses_of_google_drive_are_left_to_gdown(tmp_path, monkeypatch, address):
    fake = types.SimpleNamespace(exceptions=gdown.exceptions, calls=[])

    def refuse(*given, **more):
        fake.calls.append(inspect.signature(gdown.download).bind(*given, **more).arguments["url"])
        raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve\n  the public link")

    fake.download = refuse
    monkeypatch.setitem(sys.modules, "gdown", fake)
    with pytest.raises(DataError, match=r"Google Drive \(Cannot retrieve the public link\)"):
        obtain(address, tmp_path)
    assert fake.calls == [address]


def test_paths(tmp_path):
    path = tmp_path / "a b.tar"
    path.touch()
    assert obtain(str(path), tmp_path) == obtain(f"file://{tmp_path}/a%20b.tar", tmp_path) == path
    # The digest of a local file is not checked here, but when fingerprints are computed.
    assert obtain(f"{path}#sha256={'0' * 64}", tmp_path) == path
    with pytest.raises(DataError, match=r"c\.tar does not exist"):
        obtain(str(tmp_path / "c.tar"), tmp_path)
    with pytest.raises(DataError, match="is a folder"):
        obtain(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a/b",
        "http://a/b /data/c",
        "http:///b",
        "http://[b",
        "https://a/b#sha256=12",
        f"http://a#sha256={'0' * 64} http://b#sha256={'1' * 64}",
    ],
)
def test_invalid_sources_are_refused(text):
    with pytest.raises(DataError, match=re.escape(text[:10])):
        read_source(text)
