"""Find the credentials of the Kaggle client: to name their source in messages, and to redact them from all output.

The values are read only to recognize them in text. They are never logged, printed or written.
"""

import base64
import json
import logging
import os
import re
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

TOKEN_FILE = "~/.kaggle/access_token"
"""The file in which Kaggle tells users to save a token."""
REDACTED = "•••"

_SECRET_VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_IAP_TOKEN")
_SECRET_KEYS = ("key", "token", "access_token", "refresh_token")
_MIN_SECRET_LENGTH = 6
"""Shorter values are not redacted: they also occur inside ordinary words."""


def credential_sources() -> list[str]:
    """List the environment variables and files that hold credentials, in the order in which the client tries them.

    Returns:
        Names of variables and paths of files, never their values.
    """
    files = _credential_files()
    tokens = [str(path) for path in files if path.name.startswith("access_token")]
    others = [str(path) for path in files if not path.name.startswith("access_token")]
    token_variable, key_variable = (
        [name] if os.environ.get(name) else [] for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY")
    )
    return [*token_variable, *tokens, *key_variable, *others]


def warn_if_readable() -> None:
    """Log one warning for each credentials file that other users of this machine can read."""
    for path in _credential_files():
        if os.name == "posix" and path.stat().st_mode & 0o077:
            _warn_once(path)


def redact_credentials(text: str) -> str:
    """Replace credentials in `text` by dots.

    Known values, the value of an ``Authorization`` header, passwords in URLs and the query strings of URLs are
    replaced. A download URL carries its signature in the query string.
    """
    for secret in sorted(_known_secrets(), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    text = re.sub(r"(?i)\b(authorization\W+(?:basic|bearer)?\s*)[\w+/=.~-]{6,}", rf"\1{REDACTED}", text)
    text = re.sub(r"(://)[^/\s@]+@", rf"\1{REDACTED}@", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]+", rf"\1?{REDACTED}", text)


@cache
def _warn_once(path: Path) -> None:
    log.warning("%s: can be read by other users of this machine; run chmod 600 %s", path, path)


def _credential_files() -> list[Path]:
    """List the existing files in which the client looks for credentials."""
    home = Path.home()
    configured = os.environ.get("KAGGLE_CONFIG_DIR")
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [Path(configured)] if configured else [home / ".kaggle", config_home / "kaggle"]
    candidates = [home / ".kaggle" / name for name in ("access_token", "access_token.txt")]
    candidates += [folder / "kaggle.json" for folder in folders]
    candidates += [home / ".kaggle" / "credentials.json"]
    # The client also accepts the path of a file in this variable.
    candidates += [Path(os.environ.get("KAGGLE_API_TOKEN") or ".")]
    return [path for path in candidates if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A long token is not a valid file name.
        return False


def _known_secrets() -> set[str]:
    """Collect the values of all credentials, and the base64 form of each name and key in a Basic header."""
    secrets = {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    pairs = [(os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", ""))]
    for path in _credential_files():
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if isinstance(values, dict):
            secrets |= {str(values[key]) for key in _SECRET_KEYS if values.get(key)}
            pairs.append((str(values.get("username", "")), str(values.get("key", ""))))
        else:
            secrets.add(text)
    secrets |= {base64.b64encode(f"{name}:{key}".encode()).decode() for name, key in pairs if key}
    return {secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH}
