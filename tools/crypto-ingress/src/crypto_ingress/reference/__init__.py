"""Generator of the reference pages: the bus (AsyncAPI, JSON schemas) and the settings.

`python -m crypto_ingress.reference docs` writes them; a test compares the committed files with its output.
"""
