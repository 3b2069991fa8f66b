"""GET /v1/models and /v1/models/{id}."""

from .base import BaseHandler, verb


class ModelsHandler(BaseHandler):
    """The names that a request may have as its model."""

    @verb("read")
    async def get(self) -> None:
        """List the models."""
        self.finish(await self.gateway.models(self.principal.id))


class ModelHandler(BaseHandler):
    """One model. Its id may have slashes in it, as Bedrock's have."""

    @verb("read")
    async def get(self, name: str) -> None:
        """Describe a model."""
        self.finish(await self.gateway.model(name, self.principal.id))


default_handlers = [(r"/v1/models", ModelsHandler), (r"/v1/models/(.+)", ModelHandler)]
