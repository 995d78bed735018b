"""Where the client finds its credentials: to say so, to warn, and to keep them out of everything that is printed.

Nothing here is ever shown, logged or written; the values are read only to be recognised.
"""

import base64
import json
import logging
import os
import re
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

TOKEN = "~/.kaggle/access_token"
HIDDEN = "•••"

_VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_IAP_TOKEN")
_SECRET_KEYS = ("key", "token", "access_token", "refresh_token")


def credential_sources() -> list[str]:
    """The variables and files that hold credentials, the one that the client tries first; names, not values."""
    tokens = [str(path) for path in _files() if path.name.startswith("access_token")]
    others = [str(path) for path in _files() if not path.name.startswith("access_token")]
    variables = [[name] if os.environ.get(name) else [] for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")]
    return [*variables[0], *tokens, *variables[1], *others]


def warn_if_readable() -> None:
    """Warn once of each credentials file that other users of this machine can read."""
    for path in _files():
        if os.name == "posix" and path.stat().st_mode & 0o077:
            _warn(path)


def scrub(text: str) -> str:
    """`text` without credentials: known values, what follows `Authorization`, passwords and keys inside addresses."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = re.sub(r"(?i)\b(authorization\W+(?:basic|bearer)?\s*)[\w+/=.~-]{6,}", rf"\1{HIDDEN}", text)
    text = re.sub(r"(://)[^/\s@]+@", rf"\1{HIDDEN}@", text)
    # Addresses of files carry their permission to be fetched behind the question mark.
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]+", rf"\1?{HIDDEN}", text)


@cache
def _warn(path: Path) -> None:
    log.warning("%s can be read by other users of this machine; make it yours alone: chmod 600 %s", path, path)


def _files() -> list[Path]:
    home = Path.home()
    configured = os.environ.get("KAGGLE_CONFIG_DIR")
    folders = [Path(configured)] if configured else [home / ".kaggle", _xdg() / "kaggle"]
    candidates = [home / ".kaggle" / name for name in ("access_token", "access_token.txt")]
    candidates += [folder / "kaggle.json" for folder in folders]
    candidates += [home / ".kaggle" / "credentials.json"]
    # The client takes a path in this variable too.
    candidates += [Path(os.environ.get("KAGGLE_API_TOKEN") or ".")]
    return [path for path in candidates if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A long token is not a possible file name.
        return False


def _xdg() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _secrets() -> set[str]:
    """Every value worth hiding, and the form in which a header carries a name and key."""
    found = {os.environ.get(name, "") for name in _VARIABLES}
    pairs = [(os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", ""))]
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if isinstance(values, dict):
            found |= {str(values[key]) for key in _SECRET_KEYS if values.get(key)}
            pairs.append((str(values.get("username", "")), str(values.get("key", ""))))
        else:
            found.add(text)
    found |= {base64.b64encode(f"{name}:{key}".encode()).decode() for name, key in pairs if key}
    # Short values would tear holes into innocent words.
    return {secret for secret in found if len(secret) >= 6}
