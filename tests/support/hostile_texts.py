"""Texts that act where they are not escaped, and the scripts that a page holds."""

from html.parser import HTMLParser

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<!--<script>",
    "\u2028window.hacked = 1",
    "javascript:window.hacked=1",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "a\u202eb",
    "[red]x[/red][link=http://x]",
    "=cmd|'/c calc'!A1",
    "\ud800",
]


class Scripts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.handlers, self._inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        self.handlers += [(tag, name) for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._inside = False
