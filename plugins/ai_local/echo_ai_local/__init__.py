"""Speech recognition and description of videos on this machine."""
