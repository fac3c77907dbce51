class SpecError(ValueError):
    """A user's mistake, in one line: the value, what is allowed, what to do next. Shown without a traceback."""
