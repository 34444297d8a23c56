"""Fetching archives from a server: killed, replaced, deleted and refused downloads."""

import hashlib
import json
import shutil
import time

import pytest

from tests.site import Answer, serving

ARCHIVE = "/Penn_Action.tar.gz"


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture
def sample(finished_chain):
    """Return the path of the sample's Penn Action archive."""
    return (finished_chain / "exp/sample").resolve() / "Penn_Action.tar.gz"


def fetch(place, source, more="", **options):
    place.set(f"[penn_action]\narchive = {source}\n[workspace]\n{more}\n")
    return place.run("run", "FetchPennAction", "--config", "profile.cfg", **options)


def test_an_address_is_fetched_cited_recorded_and_dropped(empty, site, sample):
    site.files[ARCHIVE] = sample.read_bytes()
    output = fetch(empty, site.address + ARCHIVE, "keep_downloads = false")
    assert output.count("From Actemes to Action") == 1
    raw = empty.exp / "penn_action/raw"
    assert "From Actemes to Action" in (raw / "CITATION.txt").read_text(encoding="utf-8")
    digest = hashlib.sha256(sample.read_bytes()).hexdigest()
    facts = json.loads((raw / "manifest.json").read_text())["summary"]["downloads"]["archive"]
    assert (facts["address"], facts["sha256"], facts["bytes"]) == (site.address + ARCHIVE, digest, sample.stat().st_size)
    assert not list(empty.exp.rglob("Penn_Action.tar.gz"))
    site.files, asked = {}, len(site.requests)
    output = empty.run("run", "FetchPennAction", "--config", "profile.cfg") + empty.run("status", "--config", "profile.cfg")
    assert "From Actemes" not in output and len(site.requests) == asked


def test_another_file_at_the_same_address_is_refused_until_it_is_accepted(empty, site, sample):
    site.files[ARCHIVE] = sample.read_bytes()
    fetch(empty, site.address + ARCHIVE, "keep_downloads = false")
    before = empty.results()
    site.files[ARCHIVE] += bytes(512)
    output = empty.run("rerun", "FetchPennAction", "--config", "profile.cfg", code=30)
    accepted = f"{site.address}{ARCHIVE}#sha256={hashlib.sha256(site.files[ARCHIVE]).hexdigest()}"
    assert f"set the source in the settings to {accepted}" in output
    assert empty.results() == before
    asked = len(site.requests)
    fetch(empty, accepted)
    assert len(empty.results()) == 2 and len(site.requests) == asked


def test_a_path_and_an_address_with_its_digest_are_equivalent(empty, site, sample):
    shutil.copy(sample, empty.folder / "given.tar.gz")
    fetch(empty, "given.tar.gz")
    before = empty.results()
    digest = hashlib.sha256(sample.read_bytes()).hexdigest()
    for source in (f"{site.address}/nowhere#sha256={digest}", f"given.tar.gz#sha256={digest}"):
        fetch(empty, source)
    assert empty.results() == before and not site.requests
    output = fetch(empty, f"given.tar.gz#sha256={'0' * 64}", code=30)
    assert f"given.tar.gz has sha256 {digest}, not {'0' * 64} as expected" in output


def test_a_killed_download_resumes(empty, site, sample):
    site.files[ARCHIVE] = sample.read_bytes()
    site.answers = [Answer(sent=0.6), *[Answer(status=503)] * 9]
    empty.set(f"[penn_action]\narchive = {site.address}{ARCHIVE}\n")
    process = empty.start("-m", "pipeline", "run", "FetchPennAction", "--config", "profile.cfg")
    while len(site.requests) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    site.answers, begun = [], len(site.requests)
    empty.run("run", "FetchPennAction", "--config", "profile.cfg")
    ((_, asked),) = site.requests[begun:]
    assert asked.startswith("bytes=") and int(asked[6:-1]) > 0
    assert len(list(empty.exp.glob("penn_action/raw/labels/*.mat"))) == 50


def test_a_download_by_hand_is_explained(empty, site):
    site.files["/PennAction"] = b"<!DOCTYPE html><html>Box | Simple Online Collaboration</html>"
    output = fetch(empty, f"{site.address}/PennAction", code=30)
    assert "is a web page, not a file" in output and "give its path in the settings" in output
    assert "open https://upenn.box.com/PennAction in a browser" in fetch(empty, "nowhere.tar.gz", code=30)
    assert not list(empty.exp.glob("penn_action/*"))


def test_a_damaged_download_is_fetched_again_once_its_folder_is_deleted(empty, site, sample):
    """At first the server sends only half of the archive, without an HTTP error.

    The whole archive must be accepted later, although its digest differs from the digest of this half.
    """
    site.files[ARCHIVE] = sample.read_bytes()[: sample.stat().st_size // 2]
    output = fetch(empty, site.address + ARCHIVE, code=30)
    folder = next(empty.exp.glob("downloads/*"))
    assert f"Delete the folder {folder.relative_to(empty.folder)} and run again" in output
    site.files[ARCHIVE] = sample.read_bytes()
    shutil.rmtree(folder)
    fetch(empty, site.address + ARCHIVE)


def test_a_too_small_disk_is_reported_before_the_download(empty, site, sample):
    site.files[ARCHIVE] = sample.read_bytes()
    empty.set(f"[penn_action]\narchive = {site.address}{ARCHIVE}\n")
    code = (
        "import sys, shutil, collections\n"
        "shutil.disk_usage = lambda path: collections.namedtuple('usage', 'free')(1000)\n"
        "from pipeline.__main__ import main\n"
        "sys.exit(main(['run', 'FetchPennAction', '--config', 'profile.cfg']))\n"
    )
    process = empty.start("-c", code)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 30 and "where 1 kB are free; free some space" in err and "Traceback" not in err
    assert not list(empty.exp.glob("penn_action/*"))
