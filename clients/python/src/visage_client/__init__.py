"""Client of visage: upload a video, get back what the faces in it showed."""

from . import types
from ._client import AsyncClient, Client
from ._errors import AnalysisFailed, ProblemError, SessionEnded, VisageError, WaitTimeout
from ._flows import Options, PictureOptions, Retries
from ._live import LiveOptions, LiveSession
from ._video import Video

__all__ = [
    "AnalysisFailed",
    "AsyncClient",
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
