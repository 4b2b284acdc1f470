"""The reference pages that are generated from the code: the bus (AsyncAPI, JSON schemas) and the settings.

`python -m crypto_ingress.reference docs` writes them; a test compares what is committed with what it would write.
"""
