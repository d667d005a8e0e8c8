"""How good a mask is: masks against reference labels, or one method against another.

Entry points: ``evaluation.evaluate`` compares, counts, and draws where they differ; ``labels`` holds what labels mean,
their counts and scores; ``references`` reads them, ``masks`` reads or makes what is judged.
"""
