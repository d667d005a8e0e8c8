"""The publish protocol: putting items into a store so that the catalog above them cannot break.

Entry points: ``publisher.Publisher`` publishes, links, withdraws and recovers; ``check.check_catalog``
proves the catalog whole or mends it; ``census.read_census`` counts; ``scene_states`` remembers scenes
that wait or failed.
"""
