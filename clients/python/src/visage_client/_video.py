"""Videos and pictures that are sent."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import BinaryIO, Union

File = Union[str, "os.PathLike[str]", bytes, BinaryIO]
Source = Union[File, "Video"]


class Video:
    """A file to send: a path, bytes, or an open file that can seek. `name` is shown in results."""

    def __init__(self, source: File, name: str | None = None) -> None:
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        given: str
        if isinstance(source, (str, os.PathLike)):
            self._path = Path(source)
            given = self._path.name
        elif isinstance(source, bytes):
            self._file, given = io.BytesIO(source), "video"
        else:
            self._file, given = source, os.path.basename(str(getattr(source, "name", "video")))
        self.name: str = name or given

    @staticmethod
    def of(source: Source) -> Video:
        return source if isinstance(source, Video) else Video(source)

    def size(self) -> int:
        if self._path is not None:
            return self._path.stat().st_size
        assert self._file is not None
        with self._lock:
            return self._file.seek(0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        """Reads a part. Raises ValueError if the file ends before it."""
        if self._path is not None:
            with self._path.open("rb") as file:
                part = _read(file, offset, size)
        else:
            assert self._file is not None
            with self._lock:
                part = _read(self._file, offset, size)
        if len(part) != size:
            raise ValueError(f"{self.name} has become shorter while it was sent")
        return part


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
