"""Read videos as players show them, and write videos that browsers, slides and phones play."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import av.filter
import cv2
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from datasets.errors import DataError

MOST_PIXELS = 1 << 26  # limit of a frame's pixels (twice 8K), because a decoder keeps several frames in memory
# Clock ticks per second of written videos: a multiple of the usual frame rates; times are rounded by up to 6 us.
_TICKS = 90_000
_WIDEST = 10  # largest ratio of a pixel's longer side to its shorter side; a larger ratio means a damaged file
_NO_TRANSFORM = (1, 0, 0, 1)
_BT709 = 1  # H.264's code for BT.709: colour matrix, primaries and transfer curve


@dataclass(frozen=True)
class Frame:
    """A frame of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright, pixels square
    time: float  # s since the video's start


class VideoReader:
    """An iterator over the frames of a video, in the order of their times. Close it after use.

    Interlaced frames are deinterlaced (yadif, one frame for two fields). Frames with non-square pixels are resized in width to
    square pixels. Frames are rotated and mirrored by the file's display matrix. Frames that an edit list removes are skipped.

    `count` estimates the number of frames, for a progress bar. After the last frame, `failed` lists messages about damage.
    """

    def __init__(self, path: Path) -> None:
        """Open the video and decode its first frame. Raises DataError for a file that cannot be read as a video."""
        self.path, self.failed = path, list[str]()
        self.undecodable = self._damaged = 0  # numbers of undecodable and of damaged frames, for messages in `failed`
        try:
            # libav gets a file object, because libav would parse a name with a colon as an address. The whitelist allows no
            # protocols, so that a playlist cannot make libav open other files.
            self._file = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        try:
            self._container = av.open(self._file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace")
        except (av.FFmpegError, ValueError, OSError):  # OSError: the file is empty
            self._file.close()
            raise DataError(
                f"{path} cannot be read as a video: it is damaged, truncated before its table of frames, or of an unknown "
                "kind; copy it again, or convert it to MP4."
            ) from None
        try:
            self._stream = self._video_stream()
            rates = [rate for rate in (self._stream.average_rate, self._stream.guessed_rate) if rate]
            # Frames per second: the smaller of the two rates, because the larger rate may be that of the clock's ticks.
            self.rate = min(rates, default=Fraction(25))
            self.count = max(1, self._stream.frames or round((self._seconds() or 0) * self.rate))
            frames = self._shown()
            first = next(frames, None)
        except DataError:
            self.close()
            raise
        if first is None:
            self.close()
            raise DataError(f"{path} holds no frame that can be decoded; it may be damaged. Copy it again.")
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def _video_stream(self) -> av.VideoStream:
        kind = self._container.format.name
        if kind in ("tty", "image2") or kind.endswith("_pipe"):
            what = "a text file" if kind == "tty" else "a single image"
            raise DataError(f"{self.path} is {what}, not a video; give a video, or an image as JPEG or PNG.")
        moving = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving:
            found = "only sound" if self._container.streams.audio else "or it is truncated before the video begins"
            raise DataError(f"{self.path} holds no video, {found}; give a video.")
        best = self._container.streams.best("video")
        stream = best if best in moving else moving[0]
        context = stream.codec_context
        if context is None:
            raise DataError(f"{self.path} has a video codec that cannot be decoded here; convert the video to H.264.")
        if context.width * context.height > MOST_PIXELS:
            raise DataError(f"{self.path} claims frames of {context.width} x {context.height} px; convert it to smaller ones.")
        context.options = {"max_pixels": str(MOST_PIXELS)}
        context.thread_type = "NONE"  # one thread: several threads would also lose random frames next to a damaged frame
        return stream

    def _seconds(self) -> float | None:
        """Return the video's duration in s according to the file; None if the file does not state it."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if self._container.duration is None else self._container.duration / av.time_base

    def _shown(self) -> Iterator[Frame]:
        offset = -(self._container.start_time or 0) / av.time_base
        time, step, count = -math.inf, float(1 / self.rate), 0
        for frame in self._filtered(self._decoded()):
            following = max(0.0, time + step)
            if frame.pts is not None and frame.time_base:
                shown = float(frame.pts * frame.time_base) + offset
                if shown <= time:  # in a file that joins several recordings, the times restart at 0
                    offset += following - shown
                    shown = following
                time = shown
            else:  # some file formats do not store times of frames
                time = following
            count += 1
            yield Frame(_transformed(frame.to_ndarray(), _transform(frame)), time)
        self._tell_failures(time, count)

    def _decoded(self) -> Iterator[VideoFrame]:
        damaged = set()  # presentation times of damaged packets
        for packet in self._packets():
            # In MPEG-TS, is_corrupt does not prove damage: it is also set where two files were joined.
            if packet and packet.is_corrupt and self._container.format.name != "mpegts":
                damaged.add(packet.pts)
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self.undecodable += 1
                continue
            for frame in frames:
                self._damaged += frame.is_corrupt or frame.pts in damaged
                frame.time_base = frame.time_base or self._stream.time_base  # flushed frames have no time base
                yield frame

    def _packets(self) -> Iterator[av.Packet | None]:
        """Yield the stream's packets, then None, which flushes the decoder."""
        try:
            yield from (packet for packet in self._container.demux(self._stream) if packet.size)
        except av.FFmpegError:
            self.failed.append(f"{self.path} cannot be read to its end; it is damaged or truncated.")
        yield None

    def _filtered(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield the frames in RGB with square pixels, deinterlaced from the first interlaced frame on."""
        graph, kind = None, None
        for frame in frames:
            interlaced = frame.interlaced_frame or (kind is not None and kind[-1])
            now = frame.format.name, frame.width, frame.height, interlaced
            if kind != now:  # the first frame, or the format changes within the video
                if graph:
                    yield from _through(graph, None)
                graph, kind = self._graph(frame, interlaced), now
            assert graph is not None
            yield from _through(graph, frame)
        if graph:
            yield from _through(graph, None)

    def _graph(self, frame: VideoFrame, interlaced: bool) -> av.filter.Graph:
        ratio = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, _WIDEST) <= ratio <= _WIDEST:
            ratio = Fraction(1)
        graph, base = av.filter.Graph(), frame.time_base or Fraction(1, 25)
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base)
        filters = [graph.add("scale", f"{max(1, round(frame.width * ratio))}:{frame.height}"), graph.add("format", "rgb24")]
        if interlaced:
            filters.insert(0, graph.add("yadif", "deint=interlaced"))
        try:
            graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
        except av.FFmpegError:
            raise DataError(
                f"{self.path} has a pixel format that cannot be converted to RGB ({frame.format.name}); convert it to H.264."
            ) from None
        return graph

    def _tell_failures(self, last: float, count: int) -> None:
        """Append messages about damage to `failed`; last: time of the last frame in s; count: number of frames."""
        if self._container.format.name == "gif" and count + self.undecodable < self._stream.frames:
            self.failed.append(
                f"{self.path}: only {count} of {_frames(self._stream.frames)} could be read, perhaps because some have no "
                "delay; convert it to MP4."
            )
        if self.undecodable:
            self.failed.append(f"{self.path}: {_frames(self.undecodable)} could not be decoded and were skipped.")
        if self._damaged:
            self.failed.append(f"{self.path}: {_frames(self._damaged)} with interpolated areas, where the file is damaged.")
        promised, slack = self._seconds() or 0.0, float(3 / self.rate)
        if self._container.format.name == "avi":  # a truncated AVI reports a shorter duration, but the full number of frames
            promised = float(self._stream.frames / self.rate)
        if self._stream.duration is None and len(self._container.streams) > 1:
            slack += 1  # the stated duration is that of the longest stream, which may be the sound
        if not self.failed and last + slack < promised:
            self.failed.append(f"{self.path} ends after {last:.2f} s of {promised:.2f} s; it may be damaged or truncated.")


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"


def _through(graph: av.filter.Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Push a frame into a filter graph, and yield the frames that the graph returns; frame = None flushes the graph."""
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _transform(frame: VideoFrame) -> tuple[int, ...]:
    """Return (a, b, c, d) of the frame's display matrix, rounded to quarter turns; (x, y) moves to (a x + c y, b x + d y)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _NO_TRANSFORM
    a, b, _, c, d, *_ = np.frombuffer(cast(bytes, matrix), np.int32).tolist()
    keep = abs(a) + abs(d) >= abs(b) + abs(c)
    return (int(np.sign(a)), 0, 0, int(np.sign(d))) if keep else (0, int(np.sign(b)), int(np.sign(c)), 0)


def _transformed(pixels: np.ndarray, transform: tuple[int, ...]) -> np.ndarray:
    """Return an image (H, W, 3), rotated and mirrored by a transform of `_transform`."""
    if transform == _NO_TRANSFORM:
        return pixels
    a, b, c, d = transform
    if not a:
        pixels = pixels.swapaxes(0, 1)
    if a + c < 0:
        pixels = pixels[:, ::-1]
    if b + d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


class VideoWriter:
    """A writer of H.264 videos in MP4 (yuv420p, index at the start); each frame is shown until the time of the next frame.

    The first frame determines the video's size; odd sides are extended by one row or column. Later frames get this size.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        """Open the file. rate: approximate frames per second; only the last frame's duration may depend on it.

        `add` raises DataError for a size that H.264 does not allow; all methods raise OSError for a failed write.
        """
        self.path, self.rate = path, rate
        self._container = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: av.VideoStream | None = None
        self._waiting: tuple[VideoFrame, int] | None = None  # latest frame and its tick; encoded when the next frame is added
        self._duration = max(1, round(_TICKS / rate))

    def close(self) -> None:
        """Finish the video. The video holds all frames added so far, also after an error or an interruption."""
        try:
            self._encode(None)
        finally:
            self._container.close()

    def add(self, image: np.ndarray, time: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, shown from `time` s on; times must not decrease from frame to frame."""
        if self._stream is None:
            self._stream = self._start(*(side + side % 2 for side in image.shape[1::-1]))
        fitted = _fitted(image, self._stream.width, self._stream.height)
        frame = VideoFrame.from_ndarray(fitted, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._encode((frame, max(0, round(time * _TICKS))))

    def _start(self, width: int, height: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self.rate.limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        try:
            context.open()
        except av.FFmpegError:
            raise DataError(f"{self.path}: a video of {width} x {height} px cannot be written as H.264.") from None
        return stream

    def _encode(self, following: tuple[VideoFrame, int] | None) -> None:
        if self._waiting and self._stream:
            frame, at = self._waiting
            if following:
                following = following[0], max(following[1], at + 1)  # times must increase
                self._duration = following[1] - at
            frame.pts, frame.time_base, frame.duration = at, Fraction(1, _TICKS), self._duration
            self._container.mux(self._stream.encode(frame))
        self._waiting = following
        if following is None and self._stream:
            self._container.mux(self._stream.encode(None))


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return an image of `width` x `height` px: replicate the border if one row or column is missing, else scale and pad."""
    columns, rows = width - image.shape[1], height - image.shape[0]
    if {columns, rows} <= {0, 1}:
        return cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE) if columns or rows else image
    factor = min(width / image.shape[1], height / image.shape[0])
    small = cv2.resize(image, (max(1, int(image.shape[1] * factor)), max(1, int(image.shape[0] * factor))))
    left, top = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
    right, bottom = width - small.shape[1] - left, height - small.shape[0] - top
    return cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT)
