"""`python -m crypto_ingress`."""

from crypto_ingress.cli import main

if __name__ == "__main__":
    main()
