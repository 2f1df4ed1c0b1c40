"""Client of visage: upload a video, get back what the faces in it showed."""

from . import types
from ._client import AsyncClient, Client
from ._errors import AnalysisFailed, ProblemError, VisageError, WaitTimeout
from ._flows import Options, PictureOptions, Retries
from ._video import Video

__all__ = [
    "AnalysisFailed",
    "AsyncClient",
    "Client",
    "Options",
    "PictureOptions",
    "ProblemError",
    "Retries",
    "Video",
    "VisageError",
    "WaitTimeout",
    "types",
]
