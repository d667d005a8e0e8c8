"""A proof against the live services, in one command: a scene's mask made in three ways, compared, published, read back.

Entry points: ``proof.prove`` makes it, ``report.Proof`` reports it.
"""
