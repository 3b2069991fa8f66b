"""What Alembic runs to take the steps, on the connection that ``migrate`` gives it."""

from alembic import context

from jupyter_ccapi.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
