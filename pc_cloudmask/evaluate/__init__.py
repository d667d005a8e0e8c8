"""How good a mask is: masks against reference labels, one method against another, a scene against the live services.

Entry points: ``evaluation.evaluate`` compares, counts, and draws where masks differ; ``labels`` holds what labels mean,
their counts and scores; ``references`` reads them, ``masks`` reads or makes what is judged. ``proof.prove`` makes a
scene's mask in three ways on the live services, compares them, publishes one and reads it back.
"""
