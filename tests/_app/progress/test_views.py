"""Progress as lines of text and as JSON, and which view suits which place."""

from __future__ import annotations

import io
import json

import pytest

from qanat._app.consoles import is_terminal
from qanat._app.progress.figures import ErrorGroup
from qanat._app.progress.lines import LineView, NoView
from qanat._app.progress.live import LiveView
from qanat._app.progress.machine import MachineView
from qanat._app.progress.places import choose_view
from qanat._app.progress.view import Progress
from qanat._core.reason import Reason
from tests._app.progress.figures import some


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream whose other end has gone."""

    def isatty(self) -> bool:
        raise OSError

    def write(self, text: str) -> int:
        raise BrokenPipeError


class TestLineView:
    def test_one_line_each_ten_seconds_and_later_each_minute(self) -> None:
        stream = io.StringIO()
        view = LineView(stream, "fetch")
        shown: list[int] = []
        for second in range(900):
            view.show(some(seconds=float(second), done=second), 1.0, None, None)
            if stream.getvalue():
                shown.append(second)
                stream.seek(0)
                stream.truncate()
        assert shown == [*range(10, 601, 10), 660, 720, 780, 840]

    def test_a_line_holds_what_matters(self) -> None:
        stream = io.StringIO()
        errors = (ErrorGroup("ValueError", 2, "no", 7),)
        figures = some(seconds=11.0, done=5, failed=2, total=20, running=1, errors=errors)
        LineView(stream, "fetch").show(figures, 0.5, 26.0, "stopping")
        assert stream.getvalue() == (
            "fetch: 5 of 20 done, 2 failed; 30.0/min, about 0:26 left; 1 running; stopping; "
            "2 x ValueError: no (job 7)\n"
        )

    def test_a_short_run_is_quiet_until_its_end(self) -> None:
        stream = io.StringIO()
        view = LineView(stream, "")
        view.show(some(seconds=9.0), None, None, None)
        assert stream.getvalue() == ""
        view.close(["the end"], None)
        assert stream.getvalue() == "the end\n"

    def test_no_view_says_only_what_is_said(self) -> None:
        stream = io.StringIO()
        view = NoView(stream, "")
        view.show(some(seconds=99.0), None, None, None)
        view.say("hello")
        assert stream.getvalue() == "hello\n"


class TestMachineView:
    def test_every_line_is_an_object(self) -> None:
        stream = io.StringIO()
        view = MachineView(stream, "")
        reason = Reason("rate", "5/s", "a\x1b", 90.0, 100.5)
        view.show(some(done=1, reason=reason, waiting=4), 1.23456, 3.0, None)
        view.say("hello\x1b")
        view.close([], some(done=2, waits={"rate": 1.0}, errors=(ErrorGroup("E", 1, "\ud800", "x"),)))
        progress, note, summary = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert progress["event"] == "progress"
        assert (progress["done"], progress["waiting"], progress["rate"]) == (1, 4, 1.235)
        assert progress["why"] == {"cause": "rate", "limit": "5/s", "lane": "a\x1b", "for": 0.5}
        assert note == {"event": "note", "text": "hello\x1b"}
        assert (summary["event"], summary["done"], summary["waits"]) == ("summary", 2, {"rate": 1.0})
        assert "\x1b" not in stream.getvalue()


class TestChoice:
    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")

    def test_a_terminal_gets_the_live_view(self) -> None:
        assert isinstance(choose_view(Terminal(), "", shown=True, machine=False), LiveView)

    def test_other_places_get_lines(self) -> None:
        assert type(choose_view(io.StringIO(), "", shown=True, machine=False)) is LineView

    def test_no_color_takes_the_colours_and_not_the_view(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        terminal = Terminal()
        view = choose_view(terminal, "", shown=True, machine=False)
        assert isinstance(view, LiveView)
        view.show(some(total=4, done=1), 2.0, 3.0, "a note")
        view.close([], None)
        assert "a note" in terminal.getvalue()
        assert "\x1b[3" not in terminal.getvalue()

    def test_poor_terminals_get_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        assert type(choose_view(Terminal(), "", shown=True, machine=False)) is LineView

    def test_programs_get_json(self) -> None:
        assert isinstance(choose_view(Terminal(), "", shown=False, machine=True), MachineView)

    def test_a_closed_stream_gets_nothing(self) -> None:
        stream = io.StringIO()
        stream.close()
        assert choose_view(stream, "", shown=True, machine=False) is None
        assert choose_view(None, "", shown=True, machine=False) is None

    def test_shown_by_place(self) -> None:
        assert Progress(stream=Terminal()).is_shown
        assert not Progress(stream=io.StringIO()).is_shown
        assert Progress(stream=io.StringIO(), machine=True).is_shown
        assert not Progress(stream=Terminal(), shown=False).is_shown
        assert not is_terminal(Gone())


def test_a_stream_that_has_gone_is_given_up() -> None:
    progress = Progress(stream=Gone(), shown=True)
    progress.say("hello")
    progress.finish("bye")
