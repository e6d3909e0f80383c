"""Looking at what the delays learned."""
