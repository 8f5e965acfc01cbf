"""Open the storage that a URI is in, by the client that its scheme has."""

from __future__ import annotations

from interlingua.convert.remote.storage import Storage
from interlingua.convert.remote.uris import Uri
from interlingua.errors import UsageError


def open_storage(uri: Uri) -> Storage:
    """Return the storage of a URI; nothing is asked of it yet.

    Raises:
        UsageError: the packages that it takes are not installed.
    """
    try:
        if uri.scheme == "hf":
            from interlingua.convert.remote.hub import HubStorage

            return HubStorage(uri)
        if uri.scheme in ("http", "https"):
            from interlingua.convert.remote.http_storage import HttpStorage

            return HttpStorage(uri)
        from interlingua.convert.remote.fsspec_storage import FsspecStorage

        return FsspecStorage(uri)
    except ImportError as error:
        raise UsageError(
            f"{uri}: reading from {uri.scheme}:// needs packages that are not installed ({error}).",
            hint="Install them: pip install 'interlingua[remote]'.",
        ) from error
