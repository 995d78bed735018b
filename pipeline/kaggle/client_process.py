"""What runs in the child process: the official client's command line, as it is, with three additions.

Started as `python -P client.py <parent's process id> competitions files …`, never imported: importing the client signs
in and creates folders. `-P` keeps this folder off the module path, where `kaggle.py` would hide the client.
"""

import os
import sys
import threading
import time


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone, so that no orphan goes on writing beside the next run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Run the client on the arguments behind the parent's process id."""
    parent, sys.argv[:] = int(sys.argv[1]), ["kaggle", *sys.argv[2:]]
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()

    import requests
    from kaggle import api, cli

    # The client prints the server's words without the status, and words alone do not tell 403 from 500.
    words = requests.HTTPError.__str__
    requests.HTTPError.__str__ = lambda error: f"{getattr(error.response, 'status_code', '')} {words(error)}".strip()
    # The client's table of submissions leaves out why one failed.
    api.submission_fields = [*api.submission_fields, "errorDescription"]
    cli.main()


if __name__ == "__main__":
    main()
