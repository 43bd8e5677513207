"""An atlas that is read as from a server."""

from atlas.api import Atlas


class Served(Atlas):
    """An atlas that has the tables of a folder and is a server, as far as callers know."""

    def __init__(self, folder):
        self._tables = Atlas(str(folder.path), folder=folder)
        super().__init__("neo4j://somewhere", store=self._tables.store)
        self.folder = None

    saes = property(lambda self: self._tables.saes)

    def table(self, name, *, sae=None):
        return self._tables.table(name, sae=sae)
