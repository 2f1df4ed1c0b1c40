"""Client of visage: upload a video, get back what the faces in it showed."""

from . import types
from ._client import AsyncClient, Client
from ._errors import AnalysisFailed, ProblemError, SessionEnded, VisageError, WaitTimeout
from ._flows import BatchOptions, Options, PictureOptions, Retries
from ._live import AsyncLiveSession, LiveOptions, LiveSession
from ._video import Video

__all__ = [
    "AnalysisFailed",
    "AsyncClient",
    "AsyncLiveSession",
    "BatchOptions",
    "Client",
    "LiveOptions",
    "LiveSession",
    "Options",
    "PictureOptions",
    "ProblemError",
    "Retries",
    "SessionEnded",
    "Video",
    "VisageError",
    "WaitTimeout",
    "types",
]
