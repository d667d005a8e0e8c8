"""The texts of catalog and collection."""
