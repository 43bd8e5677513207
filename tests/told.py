"""A progress that keeps what it was told."""

from atlas.progress import Silent


class Told(Silent):
    def __init__(self):
        self.said = []

    def say(self, sentence):
        self.said.append(sentence)
