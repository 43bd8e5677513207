"""What reads text, activations or codes: texts, models and SAEs go in, parts come out.

>>> from ingest import ingest        # doctest: +SKIP
>>> atlas = ingest("notes.atlas", saes=[sae], model=model, text=["one document", "another"])
"""
