"""Reading videos like those of cameras, phones and editors, which the tests themselves make; and writing videos."""

import itertools
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from datasets.errors import DataError
from stages.inference.video import VideoReader, VideoWriter
from tests.shared import SHARED

BUGS = SHARED / "bugs"


def made(path, images, *, codec="libx264", pixels="yuv420p", times=None, edit=lambda number, packet: packet, **options):
    """Write a video of RGB images, without losses if the codec allows it.

    times: times of the frames in s; edit: function that changes a packet; format, container: file format and its options;
    encoder: options of the codec; stream: attributes of the stream, or arguments of its methods.
    """
    with av.open(f"file:{path}", "w", format=options.get("format"), options=options.get("container", {})) as file:
        out = file.add_stream(codec, rate=25)
        out.width, out.height, out.pix_fmt = images[0].shape[1], images[0].shape[0], pixels
        out.options = options.get("encoder", {"qp": "0", "preset": "ultrafast"} if codec == "libx264" else {})
        out.codec_context.bit_rate = 4_000_000
        if times:
            out.codec_context.time_base = Fraction(1, 1000)
        for name, value in options.get("stream", {}).items():
            getattr(out, name)(value) if callable(getattr(out, name)) else setattr(out.codec_context, name, value)
        packets = []
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            if times:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            packets += out.encode(frame)
        for number, packet in enumerate(packets + out.encode()):
            file.mux(edit(number, packet))
    return path


def read(path):
    reader = VideoReader(path)
    frames = list(reader)
    reader.close()
    return frames, reader


def greys(count, height=48, width=64, step=10):
    return [np.full((height, width, 3), 20 + step * i, np.uint8) for i in range(count)]


def levels(frames):
    return [frame.pixels.mean() for frame in frames]


@pytest.mark.parametrize(
    ("ending", "format", "codec"),
    [
        (".mts", "mpegts", "libx264"),
        (".3gp", "3gp", "mpeg4"),
        (".wmv", "asf", "wmv2"),
        (".webm", "webm", "libvpx"),
        (".mxf", "mxf", "mpeg2video"),
        (".mov", "mov", "prores_ks"),
        (".flv", "flv", "flv"),
        (".anything", "avi", "mjpeg"),
    ],
)
def test_any_kind_of_file_is_read_under_any_name(tmp_path, ending, format, codec):
    pixels = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    path = made(tmp_path / f"at 12:30{ending}", greys(6, 144, 176), codec=codec, format=format, pixels=pixels)
    frames, reader = read(path)
    np.testing.assert_allclose(levels(frames), [20, 30, 40, 50, 60, 70], atol=3)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(6) / 25, atol=2e-3)
    assert reader.failed == [] and {frame.pixels.shape for frame in frames} == {(144, 176, 3)}


def test_interlaced_frames_are_deinterlaced(tmp_path):
    moments = []  # 50 fields per second: a bar moves by 8 px from one field to the next
    for i in range(12):
        image = np.full((64, 160, 3), 30, np.uint8)
        image[:, 8 * i : 8 * i + 20] = 220
        moments.append(image)
    woven = [second.copy() for second in moments[1::2]]
    for frame, first in zip(woven, moments[::2], strict=True):
        frame[1::2] = first[1::2]
    encoder = {"qp": "0", "x264-params": "bff=1"}  # the bottom field comes first
    frames, _ = read(made(tmp_path / "a.mp4", woven, pixels="yuv444p", encoder=encoder))
    assert len(frames) == 6
    # The first and the last field have only one neighbour in time.
    for frame, moment in list(zip(frames, moments[::2], strict=True))[1:-1]:
        assert abs(frame.pixels[8:-8].astype(int) - moment[8:-8]).mean() < 3
        assert abs(frame.pixels[1::2].astype(int) - moment[1::2]).max() < 4  # rows of the first field are unchanged


def test_frames_before_an_edit_lists_start_are_left_out(tmp_path):
    def earlier(number, packet):
        tick = round(Fraction(1, 25) / packet.time_base)
        packet.pts, packet.dts = packet.pts - 8 * tick, packet.dts - 8 * tick
        return packet

    made(tmp_path / "a.mp4", greys(20, step=5), container={"avoid_negative_ts": "disabled"}, edit=earlier)
    frames, reader = read(tmp_path / "a.mp4")
    np.testing.assert_allclose(levels(frames), 20 + 5 * np.arange(8, 20), atol=2)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 25)
    assert reader.failed == []


@pytest.mark.parametrize("matrix", [
    (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0),
])  # fmt: skip
def test_display_matrices_rotate_and_mirror(tmp_path, matrix):
    a, b, c, d = matrix
    blocks = np.arange(6).reshape(2, 3) * 40 + 20  # the expected grey values, row by row
    points = [(a * x + c * y, b * x + d * y, blocks[y, x]) for y, x in itertools.product(range(2), range(3))]
    left, top = min(x for x, _, _ in points), min(y for _, y, _ in points)
    expected = {(x - left, y - top): value for x, y, value in points}
    image = np.repeat(np.repeat(blocks, 16, 0), 16, 1)[..., None].repeat(3, 2).astype(np.uint8)
    numbers = [65536 * a, 65536 * b, 0, 65536 * c, 65536 * d, 0, 0, 0, 1 << 30]
    frames, _ = read(made(tmp_path / "a.mp4", [image], stream={"set_display_matrix": numbers}))
    pixels = frames[0].pixels
    assert pixels.shape == ((48, 32, 3) if b else (32, 48, 3))
    assert {(x, y): round(pixels[16 * y + 8, 16 * x + 8].mean() / 10) * 10 for x, y in expected} == expected


def test_pixels_are_made_square(tmp_path):
    image = np.zeros((48, 90, 3), np.uint8)
    image[:, 45:] = 200  # the edge between black and white is at half the width
    frames, _ = read(made(tmp_path / "a.mp4", [image], stream={"sample_aspect_ratio": Fraction(64, 45)}))
    assert frames[0].pixels.shape == (48, 128, 3)
    assert frames[0].pixels[:, :60].max() < 10 and frames[0].pixels[:, 68:].min() > 190


def test_size_and_pixel_format_change_in_mid_stream(tmp_path):
    one = made(tmp_path / "1.ts", greys(4), format="mpegts")
    two = made(tmp_path / "2.ts", greys(4, 96, 80), format="mpegts", pixels="yuv444p")
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    frames, reader = read(tmp_path / "a.ts")
    assert reader.failed == []
    assert [frame.pixels.shape[:2] for frame in frames] == 4 * [(48, 64)] + 4 * [(96, 80)]
    np.testing.assert_allclose(levels(frames), 2 * [20, 30, 40, 50], atol=2)
    times = [frame.time for frame in frames]  # both recordings begin at the same time stamp
    assert np.diff(times).min() > 0.03 and np.diff(times).max() < 0.05
    writer = VideoWriter(tmp_path / "b.mp4", Fraction(25))
    for frame in frames:
        writer.add(np.full_like(frame.pixels, 200), frame.time)
    writer.close()
    drawn, _ = read(tmp_path / "b.mp4")
    assert len(drawn) == 8 and drawn[7].pixels.shape == (48, 64, 3)
    # The larger frames are reduced to a width of 40 px and a height of 48 px, and drawn in the middle of the video's frame.
    assert drawn[7].pixels[:, 14:50].min() > 190 and drawn[7].pixels[:, :10].max() < 10


def test_times_of_a_variable_rate_are_kept(tmp_path):
    times = [0, 0.04, 0.3, 0.34, 1.0]
    frames, reader = read(made(tmp_path / "a.mkv", greys(5), times=times))
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=1e-3)
    writer = VideoWriter(tmp_path / "b.mp4", reader.rate)
    for frame in frames:
        writer.add(frame.pixels, frame.time)
    writer.close()
    drawn, _ = read(tmp_path / "b.mp4")
    np.testing.assert_allclose([frame.time for frame in drawn], times, atol=1e-3)


def test_a_written_video_plays_in_a_browser(tmp_path):
    writer = VideoWriter(tmp_path / "a: b.mp4", Fraction(10))
    for number, image in enumerate(greys(7, 33, 47, step=30)):
        writer.add(image, number / 10)
    writer.close()
    data = (tmp_path / "a: b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(f"file:{tmp_path / 'a: b.mp4'}") as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate, stream.frames) == (48, 34, 10, 7)
    frames, reader = read(tmp_path / "a: b.mp4")
    np.testing.assert_allclose(levels(frames), 20 + 30 * np.arange(7), atol=3)
    assert reader.failed == []
    VideoWriter(tmp_path / "none.mp4", Fraction(10)).close()  # the writer was interrupted before its first frame


def test_frames_that_cannot_be_decoded_are_counted(tmp_path):
    def spoilt(number, packet):
        if number not in (2, 3):
            return packet
        other = av.Packet(bytes(40))
        other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, packet.stream
        return other

    path = made(tmp_path / "a.avi", greys(6), codec="huffyuv", pixels="yuv422p", edit=spoilt)
    frames, reader = read(path)
    np.testing.assert_allclose(levels(frames), [20, 30, 60, 70], atol=1)
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.04, 0.16, 0.2])
    assert reader.undecodable == 2
    assert reader.failed == [f"{path}: 2 frames could not be decoded and were skipped."]


@pytest.mark.parametrize(("ending", "codec"), [(".avi", "mjpeg"), (".mp4", "libx264"), (".mkv", "libx264")])
def test_a_truncated_video_is_read_as_far_as_possible(tmp_path, ending, codec):
    noise = list(np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8))
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = made(tmp_path / f"a{ending}", noise, codec=codec, pixels=pixels, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, reader = read(path)
    assert 8 < len(frames) < 20 and len(reader.failed) == 1 and str(path) in reader.failed[0]


def test_frames_of_a_gif_that_are_lost_are_counted(tmp_path):
    """Without the blocks that state delays, libav merges frames."""
    images = [Image.fromarray(image) for image in np.random.default_rng(0).integers(0, 255, (6, 40, 60, 3), np.uint8)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    frames, reader = read(tmp_path / "a.gif")
    assert len(frames) == 6 and not reader.failed
    (tmp_path / "b.gif").write_bytes(re.sub(rb"!\xf9\x04.{4}\x00", b"", (tmp_path / "a.gif").read_bytes(), flags=re.DOTALL))
    frames, reader = read(tmp_path / "b.gif")
    lost = f"only {len(frames)} of 6 frames could be read, perhaps because some have no delay"
    assert len(frames) < 6 and len(reader.failed) == 1 and lost in reader.failed[0]


def test_files_that_are_no_videos_are_refused(tmp_path):
    with av.open(str(tmp_path / "sound.m4a"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    made(tmp_path / "other.mts", greys(3), format="mpegts")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/other.mts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile other.mts\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("no video\n" * 50)
    (tmp_path / "cut.mp4").write_bytes(made(tmp_path / "a.mp4", greys(5)).read_bytes()[:-300])
    for name, words in {
        "sound.m4a": "holds no video, only sound",
        "list.m3u8": "cannot be read as a video",
        "list.ffconcat": "cannot be read as a video",
        "notes.txt": "is a text file, not a video",
        "cut.mp4": "cannot be read as a video",
        "empty.mp4": "cannot be read as a video",
        "nowhere.mp4": "cannot be read: No such file",
    }.items():
        with pytest.raises(DataError, match=words) as raised:
            VideoReader(tmp_path / name)
        assert name in str(raised.value)


@pytest.mark.skipif(not BUGS.is_dir(), reason="the videos that once could not be read are missing")
@pytest.mark.parametrize(("name", "count"), [("trimmed_edit_list.mp4", 67), ("camcorder.mts", 25), ("interlaced_1080i.mov", 5)])
def test_files_that_once_failed(name, count):
    frames, reader = read(BUGS / name)
    assert len(frames) == count and reader.failed == [] and frames[0].time == 0
    for frame in frames if "interlaced" in name else []:  # in an interlaced frame, rows differ from both neighbouring rows
        rows = frame.pixels.astype(int).mean(axis=2)
        assert abs(rows[2:-1] - (rows[1:-2] + rows[3:]) / 2).mean() < 2 * abs(rows[3:] - rows[1:-2]).mean() + 1


def test_frames_of_too_many_pixels_are_not_decoded(tmp_path, monkeypatch):
    # The size of the frames changes after the part of the file that VideoReader inspects when it opens the file.
    small, large = greys(400, step=0), greys(4, 96, 80)
    one, two = (made(tmp_path / name, images, format="mpegts") for name, images in (("1.ts", small), ("2.ts", large)))
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    # The limit is above the small frames' 64 x 48 px, because decoders round sizes up to whole blocks.
    monkeypatch.setattr("stages.inference.video.MOST_PIXELS", 64 * 80)
    with pytest.raises(DataError, match=r"2\.ts claims frames of 80 x 96 px"):
        VideoReader(two)
    frames, reader = read(tmp_path / "a.ts")
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)} and reader.undecodable == 4
