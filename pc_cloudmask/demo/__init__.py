"""The sample archive, generated on the spot, and the score of its masks against the known truth.

Entry points: ``demo.build_demo_request`` and ``demo.score_demo``; ``archive.build_sample_archive`` writes the items
and rasters of the scenes in ``scenes``.
"""
