"""The one exception that a user is meant to read."""


class UserError(Exception):
    """What the user can mend; its text is one sentence with the file, what is wrong and what to do.

    Scripts print it without a traceback and exit with code 1. Anything else that is raised is a bug of ours.
    """
