"""`python -m flows.cli`."""

from flows.cli.app import main

if __name__ == "__main__":  # a worker process that Dask starts imports this module again
    main()
