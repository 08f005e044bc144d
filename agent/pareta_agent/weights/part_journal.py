"""Fetch journal: records the finished parts of an interrupted fetch, in an append-only text file beside the files.

A hint, not a proof: the sha256 of the whole file decides. A torn last line is ignored, as is a journal of another
manifest or part size.
"""

from __future__ import annotations

from pathlib import Path


class PartJournal:
    """`done` holds (file index, part index) pairs."""

    def __init__(self, path: Path, head: str) -> None:
        self._path = path
        self._head = head
        self.done: set[tuple[int, int]] = set()

    def open(self) -> bool:
        """Reads the journal. False if the journal belonged to another fetch and was started again."""
        try:
            head, *lines = self._path.read_text().split("\n")
        except (OSError, ValueError):
            head, lines = "", []
        if head != self._head:
            self.reset()
            return False
        for line in lines[:-1]:
            file, _, part = line.partition(" ")
            if file.isdecimal() and part.isdecimal():
                self.done.add((int(file), int(part)))
        if lines and lines[-1]:
            self._write(self._text())
        return True

    def add(self, file: int, part: int) -> None:
        self.done.add((file, part))
        with self._path.open("a") as out:
            out.write(f"{file} {part}\n")

    def forget(self, file: int) -> None:
        """Removes a file's parts, because the bytes were wrong."""
        self.done = {entry for entry in self.done if entry[0] != file}
        self._write(self._text())

    def reset(self) -> None:
        self.done = set()
        self._write(self._text())

    def _text(self) -> str:
        return "\n".join([self._head, *(f"{file} {part}" for file, part in sorted(self.done))]) + "\n"

    def _write(self, text: str) -> None:
        # Not `files.write_atomically`: a hint needs no sync, which would wait for the disk that the fetch fills. The
        # fetch's exclusive lock keeps other writers away, so a fixed name replaces what a killed one left.
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_text(text)
        temporary.replace(self._path)
