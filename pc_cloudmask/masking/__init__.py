"""How a mask is made: the algorithm, the table of methods, one module a method, and Earth Engine.

Entry points: ``methods`` lists the methods; ``s2cloudless``, ``cloud_score_plus`` and ``csmask`` are theirs;
``morphology.compose_classes`` makes the classes of every mask; ``files`` writes them as COG and preview.
``earth_engine/`` speaks to Earth Engine. The arithmetic (``clouds_and_shadows``, ``morphology``, ``pyramid``,
``statistics``) does no I/O.
"""
