"""What the ports stand for: databases, queues, configuration, plugins."""
