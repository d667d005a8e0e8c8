"""How good a mask is: masks against reference labels, or one method against another.

Entry points: ``evaluation.evaluate`` compares and counts; ``confusion`` holds the counts and the scores derived from
them; ``layout`` reads what labels mean, ``labels`` the labels; ``picture`` draws where they differ.
"""
