"""The adapters: sources, engines and stores behind the ports, and the formats of files."""
