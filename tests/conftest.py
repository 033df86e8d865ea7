"""What every test may count on, however the tests were started."""

import signal


def pytest_configure() -> None:
    """Signals as in a terminal: a shell that starts tests in the background hands on that they are ignored."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
