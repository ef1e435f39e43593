"""Pages as tests read them: elements, attributes and texts; and a text that must stay text."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    '<script src=http://evil.example/x.js>alert(\'1\')</script>"><img src=x onerror="alert(2)"> $\\frac{1}$ &amp; 犬'
)


class PageReader(HTMLParser):
    """Read a page: its elements, their attributes, its text, and whether every element is closed in its turn."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
