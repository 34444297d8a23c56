"""Archives: unpacked whole, in bounded memory, and never outside their folder."""

import gzip
import io
import os
import tarfile
import zipfile

import pytest

from datasets.errors import DataError
from stages.archives import unpack

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

    def stop(*_, **__):
        if len(list(tmp_path.glob("out/images/*.jpg"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, PATTERN, tmp_path / "out", stop)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert unpack(archive, PATTERN, tmp_path / "out") == 5
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/images").iterdir()}
    assert len(before) == 3 and before.items() <= after.items()
