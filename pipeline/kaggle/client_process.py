"""The program of the child process: the official client's command line with three changes.

1. It ends when its parent process ends.
2. The message of an HTTP error starts with the status code.
3. The table of submissions has the column ``errorDescription``.

It is started as ``python -P client_process.py <parent's process id> competitions files ...`` and never imported:
importing the client signs in and creates folders. ``-P`` keeps this folder off the module path, where its files would
hide other modules of the same name.
"""

import os
import sys
import threading
import time


def _exit_with_parent(parent: int) -> None:
    """End this process when its parent ends, so that no orphan writes into a folder that another client uses."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Run the client with the arguments that follow the parent's process id."""
    parent, sys.argv[:] = int(sys.argv[1]), ["kaggle", *sys.argv[2:]]
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()

    import requests
    from kaggle import api, cli

    # The client prints the server's message without the status code, and the message alone does not tell 403 from 500.
    message = requests.HTTPError.__str__

    def message_with_status(error: BaseException) -> str:
        response = getattr(error, "response", None)
        return f"{getattr(response, 'status_code', '')} {message(error)}".strip()

    requests.HTTPError.__str__ = message_with_status  # type: ignore[method-assign] # the client has no hook for it
    # Without this column the table does not say why a submission failed.
    api.submission_fields = [*api.submission_fields, "errorDescription"]
    cli.main()


if __name__ == "__main__":
    main()
