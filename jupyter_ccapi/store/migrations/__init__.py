"""The steps that make the schema: `versions` has one module for each, Alembic runs them.

A new step is a copy of the shape of the last one; ``schema.HEAD`` then names it. A step is never
changed once it was released.
"""
