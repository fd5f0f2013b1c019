"""Shows the processes of a mesh: one live table on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.view import State, View
from services.kit.clock import Now

_STYLES = {
    State.STARTING: "yellow",
    State.READY: "green",
    State.NOT_READY: "red",
    State.RESTARTING: "red",
    State.STOPPING: "yellow",
    State.STOPPED: "dim",
    State.FAILED: "bold red",
}
_REFRESH_PER_S = 4


class Screen(Protocol):
    """Where the state of a mesh is shown, between `open` and `close`."""

    def open(self, views: Sequence[View]) -> None:
        """Begins to show."""

    def changed(self, view: View) -> None:
        """One process is different now."""

    def close(self) -> None:
        """Shows no more, so that other output has the terminal to itself. May be called twice."""


class Lines:
    """One line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __repr__(self) -> str:
        return "Lines()"

    def open(self, views: Sequence[View]) -> None:
        """Nothing to show yet."""

    def changed(self, view: View) -> None:
        pid = f" pid {view.pid}" if view.pid else ""
        note = f": {view.note}" if view.note else ""
        self._console.print(f"{view.name} {view.state.value}{pid} {view.address}{note}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing to end."""


class LiveTable:
    """A table that is drawn anew several times a second."""

    def __init__(self, console: Console, now: Now) -> None:
        self._now = now
        self._views: dict[str, View] = {}
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=_REFRESH_PER_S, transient=True
        )

    def __repr__(self) -> str:
        return f"LiveTable({len(self._views)} processes)"

    def open(self, views: Sequence[View]) -> None:
        self._views = {view.name: view for view in views}
        self._live.start(refresh=True)

    def changed(self, view: View) -> None:
        self._views[view.name] = view

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table("process", "state", "address", "pid", "restarts", "for", "", box=None, header_style="dim")
        now_s = self._now()
        for view in self._views.values():
            table.add_row(
                view.name,
                Text(view.state.value, style=_STYLES[view.state]),
                view.address,
                str(view.pid or ""),
                str(view.restarts or ""),
                elapsed(now_s - view.since_s),
                Text(view.note, style="dim"),
            )
        return table


def screen_for(console: Console, now: Now) -> Screen:
    """A live table where the console is a terminal, plain lines elsewhere."""
    return LiveTable(console, now) if console.is_terminal else Lines(console)


def elapsed(seconds: float) -> str:
    """A time as `12s`, `3m 05s` or `2h 10m`."""
    whole = int(max(seconds, 0.0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"
