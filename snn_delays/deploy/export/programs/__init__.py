"""Programs that run exports, each together with one: ``export.program`` copies them.

They import nothing of this package but each other, and run on Python 3.10 and later.
"""
