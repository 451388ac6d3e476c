"""A disk that fails on demand, but only for some modules of one appliance (`_MODULES`).

A Python process with this disk's environment variables loads a `sitecustomize` module, which wraps
system calls. The control file can name an error and a system call (`*`: every call). Whenever one
of these modules makes this call, the call fails with this error.
"""

from __future__ import annotations

from pathlib import Path

CALLS = [
    "os.open",
    "os.stat",
    "os.fstat",
    "os.read",
    "os.pread",
    "os.write",
    "os.pwrite",
    "os.rename",
    "os.replace",
    "os.unlink",
    "os.mkdir",
    "os.rmdir",
    "os.fsync",
    "os.utime",
    "os.scandir",
    "os.listdir",
    "os.close",
    "os.dup",
    "fcntl.flock",
    "io.open",
]

_SITE = r"""
import builtins, fcntl, io, os, sys

_CONTROL = os.environ["FAULTY_DISK"]
_MODULES = (
    "entrepot.datastore.", "entrepot.edge.", "entrepot.registry.download.",
    "entrepot.registry.push.upload_sessions", "entrepot.registry.pullthrough.manifests",
    "entrepot.registry.pullthrough.prefetch", "entrepot.cleaner.spool",
    "entrepot.cleaner.maintenance.abandoned_uploads", "entrepot.cleaner.running_transfers",
    "entrepot.cleaner.sweep",
)
_open, _read, _close = os.open, os.read, os.close


def _fault(name):
    try:
        control = _open(_CONTROL, os.O_RDONLY)
    except OSError:
        return 0
    try:
        number, _, names = _read(control, 4096).decode().partition(" ")
    finally:
        _close(control)
    return int(number or 0) if names in ("*", name) else 0


def _is_asked():
    frame = sys._getframe(2)
    for _ in range(8):
        if frame is None:
            return False
        if frame.f_globals.get("__name__", "").startswith(_MODULES):
            return True
        frame = frame.f_back
    return False


def _wrap(module, name, called):
    real = getattr(module, name)

    def call(*args, **kwargs):
        number = _is_asked() and _fault(called)
        if called == "os.close":  # Linux closes the file whatever it reports
            real(*args, **kwargs)
            if number:
                raise OSError(number, os.strerror(number))
            return None
        if number:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    setattr(module, name, call)


for _called in "CALLS".split():
    _module, _name = _called.split(".")
    _wrap({"os": os, "fcntl": fcntl, "io": io}[_module], _name, _called)
builtins.open = io.open
"""


class FaultyDisk:
    """A disk that fails on demand, for the processes with its `environment`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._control = folder / "control"
        self.behave()
        (folder / "sitecustomize.py").write_text(_SITE.replace("CALLS", " ".join(CALLS)))

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that make a Python process use this disk."""
        return {"PYTHONPATH": str(self._folder), "FAULTY_DISK": str(self._control)}

    def fail(self, number: int, call: str = "*") -> None:
        """Make the system call *call* fail with the error *number* (errno) from now on."""
        self._set(f"{number} {call}")

    def behave(self) -> None:
        """Make all system calls succeed again."""
        self._set("")

    def _set(self, text: str) -> None:
        beside = self._control.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self._control)
