"""Questions about an atlas as a whole: what reads parts or graphs, never text or activations.

Empty so far. Graph statistics, counterparts across SAEs, the transcoder and
residual study and the geometry of features move in here; what reads text,
activations or codes belongs to ``ingest``.
"""
