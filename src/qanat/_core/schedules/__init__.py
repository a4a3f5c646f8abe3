"""When something comes back by itself: once, at intervals, or by the calendar."""

from qanat._core.schedules.at import At
from qanat._core.schedules.cron import Cron
from qanat._core.schedules.every import Every
from qanat._core.schedules.schedule import Schedule
from qanat._core.schedules.timetable import Timetable

__all__ = ["At", "Cron", "Every", "Schedule", "Timetable"]
