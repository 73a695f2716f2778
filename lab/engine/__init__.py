"""The container engine behind one adapter: the only floor that imports ``docker``."""
