"""Questions about an atlas as a whole: what reads parts or graphs, never text or activations.

So far the tables and pictures of probes. Graph statistics, counterparts across SAEs, the
transcoder and residual study and the geometry of features move in here; what reads text,
activations or codes belongs to ``ingest``.
"""
