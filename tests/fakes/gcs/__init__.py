"""Google Cloud Storage on loopback. ``from tests.fakes.gcs.server import FakeGcs``."""
