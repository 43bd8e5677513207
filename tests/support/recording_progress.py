"""A progress that records its messages."""

from atlas.progress import Silent


class RecordingProgress(Silent):
    def __init__(self):
        self.messages = []

    def report(self, sentence):
        self.messages.append(sentence)
