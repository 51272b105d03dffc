"""Imported before all else by the process that runs are forked from, which knows modules alone."""

from unvanish.command.later import metrics_come_later

metrics_come_later()
