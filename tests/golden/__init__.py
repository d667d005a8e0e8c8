"""The job's golden test: every command on small archives, judged by bytes and answers.

``python -m tests.golden compare`` runs two stories, each a list of commands in a fresh folder, and names
what differs from the recording; ``record`` replaces the recording.

``archive``  the scenes in ``tests/golden/archive``, cut from the demo's archive of version 0.1.0: 132 x 108
             pixels of 20 m, two dates each of two tiles, with a swath's edge, water, clouds, their shadows.
             ``later.json`` is the same source on another day: one scene is mended, one newer, one gone.
             ``test_golden.py`` runs this story.
``demo``     ``cloudmask demo`` and what a user may do next. Its recording changes with the demo.

A recording is two files: ``STORY.sha256`` has a line of path and SHA-256 for each file that the commands
left, ``STORY.json`` the answers of the commands and the catalog's documents, so that a difference can be
named by its key. Durations, the version, the folder and the port are replaced by words in both.

``python -m tests.golden tests FILE`` writes the names of all tests, without the folders they stand in;
``compare --tests FILE`` says which of them are gone.
"""
