"""Read videos as players show them; write videos that browsers, slides and phones play."""

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

MOST_PIXELS = 1 << 26  # of a frame: twice 8K; a decoder holds several frames at a time
_TICKS = 90_000  # a second, of the videos that are written: divides the usual frame rates, and no time moves by over 6 us
_WIDEST = 10  # pixels that are more than so many times as wide as high, or as high as wide, are damage
_NO_TRANSFORM = (1, 0, 0, 1)
_BT709 = 1  # the code of the colour matrix, its primaries and its curve in H.264


@dataclass(frozen=True)
class Frame:
    """A frame of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright, pixels square
    time: float  # s since the video's start


class VideoReader:
    """The frames of a video, once, in the order of their times. Close it when done.

    Interlaced frames are deinterlaced (yadif, one frame for two fields), non-square pixels made square by a new width, and
    frames rotated and mirrored as the file's display matrix says. Frames that an edit list cuts away are left out.

    `count` estimates the number of frames, for a progress bar. `failed` tells, after the last frame, what could not be read.
    """

    def __init__(self, path: Path) -> None:
        """Decodes the first frame. Raises DataError where the file is no video that can be read."""
        self.path, self.failed = path, list[str]()
        self.undecodable = self._damaged = 0  # frames
        try:
            # A file object, not a name, which libav would take apart at a colon. No protocol: a playlist opens no other file.
            self._file = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        try:
            self._container = av.open(self._file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace")
        except (av.FFmpegError, ValueError):
            self._file.close()
            raise DataError(
                f"{path} cannot be read as a video: it is damaged, cut off before its table of frames, or of an unknown kind."
            ) from None
        try:
            self._stream = self._video_stream()
            rates = [rate for rate in (self._stream.average_rate, self._stream.guessed_rate) if rate]
            self.rate = min(rates, default=Fraction(25))  # one of them may be the clock's
            self.count = max(1, self._stream.frames or round((self._seconds() or 0) * self.rate))
            frames = self._shown()
            first = next(frames, None)
        except DataError:
            self.close()
            raise
        if first is None:
            self.close()
            raise DataError(f"{path} holds no frame that can be decoded; it may be damaged.")
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
            what = "a text" if kind == "tty" else "a single picture"
            raise DataError(f"{self.path} is {what}, not a video; give a video, or the picture as JPEG or PNG.")
        moving = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving:
            found = "only sound" if self._container.streams.audio else "or it is cut off before it begins"
            raise DataError(f"{self.path} holds no video, {found}; give a video.")
        best = self._container.streams.best("video")
        stream = best if best in moving else moving[0]
        context = stream.codec_context
        if context is None:
            raise DataError(f"{self.path} is encoded in a way that cannot be decoded here; convert it to H.264.")
        if context.width * context.height > MOST_PIXELS:
            raise DataError(f"{self.path} claims frames of {context.width} x {context.height} px; convert it to smaller ones.")
        context.options = {"max_pixels": str(MOST_PIXELS)}
        context.thread_type = "NONE"  # a decoder in threads loses frames beside a damaged one, and not always the same
        return stream

    def _seconds(self) -> float | None:
        """The video's length as the file says."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if self._container.duration is None else self._container.duration / av.time_base

    def _shown(self) -> Iterator[Frame]:
        offset = -(self._container.start_time or 0) / av.time_base
        time, step = -math.inf, float(1 / self.rate)
        for frame in self._filtered(self._decoded()):
            following = max(0.0, time + step)
            if frame.pts is not None and frame.time_base:
                shown = float(frame.pts * frame.time_base) + offset
                if shown <= time:  # two recordings in one file, as camcorders and `cat` leave them: the clock starts again
                    offset += following - shown
                    shown = following
                time = shown
            else:  # some kinds of file keep no times
                time = following
            yield Frame(_transformed(frame.to_ndarray(), _transform(frame)), time)
        self._tell_failures(time)

    def _decoded(self) -> Iterator[VideoFrame]:
        damaged = set()  # times of packets
        for packet in self._packets():
            if packet and packet.is_corrupt and self._container.format.name != "mpegts":  # there it may be a seam of two files
                damaged.add(packet.pts)
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self.undecodable += 1
                continue
            for frame in frames:
                self._damaged += frame.is_corrupt or frame.pts in damaged
                frame.time_base = frame.time_base or self._stream.time_base  # those that were held back have none
                yield frame

    def _packets(self) -> Iterator[av.Packet | None]:
        """The stream's packets, then None, at which the decoder gives the frames that it holds back."""
        try:
            yield from (packet for packet in self._container.demux(self._stream) if packet.size)
        except av.FFmpegError:
            self.failed.append(f"{self.path} cannot be read to its end; it is damaged or cut off.")
        yield None

    def _filtered(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """The frames as square pixels in RGB; from the first that is marked as interlaced on, those so marked deinterlaced."""
        graph, kind = None, None
        for frame in frames:
            interlaced = frame.interlaced_frame or (kind is not None and kind[-1])
            now = frame.format.name, frame.width, frame.height, interlaced
            if kind != now:  # also in mid-stream
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
            raise DataError(f"{self.path} has pixels that cannot be converted ({frame.format.name}); convert it.") from None
        return graph

    def _tell_failures(self, last: float) -> None:
        if self.undecodable:
            self.failed.append(f"{self.path}: {_frames(self.undecodable)} left out that could not be decoded.")
        if self._damaged:
            self.failed.append(f"{self.path}: {_frames(self._damaged)} with guessed parts, where the file is damaged.")
        promised, slack = self._seconds() or 0.0, float(3 / self.rate)
        if self._container.format.name == "avi":  # which has no edit list, and whose duration is cut like the file
            promised = float(self._stream.frames / self.rate)
        if self._stream.duration is None and len(self._container.streams) > 1:
            slack += 1  # it is the longest stream's duration
        if not self.failed and last + slack < promised:
            self.failed.append(f"{self.path} ends after {last:.2f} s of {promised:.2f} s; it may be damaged.")


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"


def _through(graph: av.filter.Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """What a graph gives when it is given a frame; with None, what it still holds."""
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _transform(frame: VideoFrame) -> tuple[int, ...]:
    """Rows of the frame's display matrix, to the nearest that turns by quarters: x' = a x + c y, y' = b x + d y."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _NO_TRANSFORM
    a, b, _, c, d, *_ = np.frombuffer(cast(bytes, matrix), np.int32).tolist()
    keep = abs(a) + abs(d) >= abs(b) + abs(c)
    return (int(np.sign(a)), 0, 0, int(np.sign(d))) if keep else (0, int(np.sign(b)), int(np.sign(c)), 0)


def _transformed(pixels: np.ndarray, transform: tuple[int, ...]) -> np.ndarray:
    """An image (H, W, 3) rotated and mirrored."""
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
    """Frames as an H.264 video in MP4 (yuv420p, index at its start), each shown from its time to the next frame's.

    The first frame decides the video's size, made even by a column or row more; a frame of another size is fitted in.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        """rate: frames a second, about; only the last frame's duration may depend on it. Raises DataError, OSError."""
        self.path, self.rate = path, rate
        self._container = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: av.VideoStream | None = None
        self._waiting: tuple[VideoFrame, int] | None = None  # until the next frame tells its duration
        self._duration = max(1, round(_TICKS / rate))

    def close(self) -> None:
        """Finish the video; also after an error or an interruption it holds the frames until then."""
        try:
            self._encode(None)
        finally:
            self._container.close()

    def add(self, image: np.ndarray, time: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, that is shown from `time` s on; not before the frame that was added before it."""
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
                following = following[0], max(following[1], at + 1)  # times of their own
                self._duration = following[1] - at
            frame.pts, frame.time_base, frame.duration = at, Fraction(1, _TICKS), self._duration
            self._container.mux(self._stream.encode(frame))
        self._waiting = following
        if following is None and self._stream:
            self._container.mux(self._stream.encode(None))


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image in another size: as it is and its edge repeated where 1 px is missing, else scaled, with black bars."""
    beside, below = width - image.shape[1], height - image.shape[0]
    if {beside, below} <= {0, 1}:
        return cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE) if beside or below else image
    factor = min(width / image.shape[1], height / image.shape[0])
    small = cv2.resize(image, (max(1, int(image.shape[1] * factor)), max(1, int(image.shape[0] * factor))))
    left, top = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
    right, bottom = width - small.shape[1] - left, height - small.shape[0] - top
    return cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT)
