"""What stops a command: one sentence for people, and the exit code."""

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class Problem(Exception):
    """An expected failure. The message says what is wrong and what to do; it goes to stderr as it is."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class UsageProblem(Problem):
    """The command was called wrongly: nothing was started."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=USAGE)
