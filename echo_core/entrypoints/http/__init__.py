"""The REST and WebSocket contract."""
