"""Checks of files of text that the user names, shared by texts, lists of words and steering tasks."""

import codecs
import os
from pathlib import Path

from atlas.errors import BadInput

__all__ = ["how_to_convert", "refuse_pipe"]


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe, a socket or a device: reading one can wait forever, and happens only once.

    Raises
    ------
    BadInput
        If the path exists and is neither a file nor a folder.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise BadInput(
            f"{path} is a pipe or a device, and a file is expected. Write its content to a file, and name "
            "that file."
        )


def how_to_convert(beginning: bytes) -> str:
    r"""Return the advice for a file that is not UTF-8, by the first bytes of the file.

    Examples
    --------
    >>> how_to_convert(b"caf\xe9")
    'Convert the file from its encoding, for example with `iconv -f WINDOWS-1252 -t UTF-8`.'
    >>> how_to_convert("text".encode("utf-16"))
    'Convert the file from its encoding with `iconv -f UTF-16 -t UTF-8`.'
    """
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "Convert the file from its encoding with `iconv -f UTF-16 -t UTF-8`."
    return "Convert the file from its encoding, for example with `iconv -f WINDOWS-1252 -t UTF-8`."
