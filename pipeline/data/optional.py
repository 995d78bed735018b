"""Errors of the optional packages that read DICOM and TIFF files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

_INSTALL = "install it: .venv/bin/python -m pip install -r requirements-formats.txt"
_MISSING_DECODERS = ("missing required dependencies", "missing dependencies", "imagecodecs")


@contextmanager
def explain_decoder(path: Path, kind: str) -> Iterator[None]:
    """Turn every error of a decoder into a UserError; such errors have no common base class.

    Args:
        path: the file that is read.
        kind: "DICOM" or "TIFF".

    Raises:
        UserError: the file is damaged, of a kind that no package reads, or a package that it needs is not installed.
    """
    try:
        yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(path, f"is a {kind} file, but {error.name} is not installed", _INSTALL) from None
    except ImportError as error:
        raise UserError(path, f"is a {kind} file, but a package cannot be imported ({error})", _INSTALL) from None
    except MemoryError:
        raise UserError(path, "does not fit into memory", "free some, or split it into tiles") from None
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        if any(words in reason for words in _MISSING_DECODERS):
            what = f"is compressed in a way that needs another package ({reason})"
            raise UserError(path, what, _INSTALL) from None
        if "not supported" in reason:
            raise UserError(path, f"is of a kind that cannot be read ({reason})", "convert it") from None
        raise UserError(path, f"cannot be read as {kind} ({reason})", "download the file again, or remove it") from None
