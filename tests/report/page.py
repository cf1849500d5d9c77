"""A small reader of HTML pages, for tests."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes and text, checked to be nested correctly."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[str, str]] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        element = (tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()

    def handle_data(self, data):
        if data.strip():
            path = " ".join(f"{tag}.{attributes.get('class', '')}" for tag, attributes in self.open)
            self.words.append((path, data))

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, within: str = "", outside: str = "\0") -> str:
        """Text inside of elements whose path contains `within` and not `outside`, without styles."""
        skip = ("style.", outside)
        found = [data for path, data in self.words if within in path and not any(word in path for word in skip)]
        return re.sub(r"[ \n]+", " ", " ".join(found))
