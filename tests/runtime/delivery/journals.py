"""Rows for a journal."""

from __future__ import annotations

from runtime.delivery.journal import record_of
from runtime.delivery.journal_reader import Record
from runtime.messages import Message


def rows(*messages: Message) -> list[Record]:
    return [record_of(message) for message in messages]
